"""Read a study's MLflow runs into one tidy polars frame.

The store's content is untrusted input. This package validates it, selects one row per
(configuration, seed), and determines which metrics a study has. It computes no statistics.
"""

from reports.study.load import (
    ExternalResults,
    Provenance,
    ResultsBySeed,
    Study,
    load_records,
    load_study_names,
    study_from_runs,
)
from reports.study.names import configuration_text, metric_heading
from reports.study.on_demand import History
from reports.study.rows import make_study_frame
