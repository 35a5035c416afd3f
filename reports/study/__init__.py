"""A study's runs out of MLflow as one tidy polars frame.

Answers for: taking a store as somebody else's, one row a (setting, seed), what a study measures.
Computes no statistic.
"""

from harness.store import (
    Configuration,
    Factor,
    Run,
    default_tracking_uri,
    run_address,
    study_names,
)
from reports.study.load import Study, load_records
from reports.study.names import heading, in_words
from reports.study.on_demand import History
from reports.study.rows import frame
