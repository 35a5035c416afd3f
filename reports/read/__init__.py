"""A study's runs out of MLflow as one tidy polars frame.

Answers for: taking a store as somebody else's, one row a (setting, seed), what a study measures.
Computes no statistic.
"""

from reports.read.on_demand import History
from reports.read.records import Study, load_records
from reports.read.rows import frame
from reports.read.runs import (
    Run,
    default_tracking_uri,
    paged_runs,
    plain_run,
    run_address,
    sqlite_finished,
    sqlite_runs,
    study_names,
)
from reports.read.tags import Factor, Setting, heading, in_words
