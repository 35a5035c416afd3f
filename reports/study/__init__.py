"""Read a study's MLflow runs into a tidy polars frame with one row per (configuration, seed).

The store's content is untrusted input, which this package validates. If several runs have a seed,
it selects the one that counts. It also determines which metrics a study has. It computes no
statistics.
"""

from reports.study.load import (
    ExternalResults,
    Provenance,
    ResultsBySeed,
    Study,
    build_study_from_runs,
    load_records,
    load_study_names,
)
from reports.study.names import format_configuration, get_metric_heading
from reports.study.on_demand import History
from reports.study.rows import make_study_frame
