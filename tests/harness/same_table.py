"""Check that a study that had a fault has the same table as an undisturbed one."""

import polars as pl
from polars.testing import assert_frame_equal

from reports.render import format_csv
from reports.study.load import Study, load_records
from reports.tables.build import build_tables

# Columns that differ between runs of the same seed: ID, time and cost.
RUN_COLUMNS = ("run_id", "started", "seconds", "peak_memory_mb", "text_tokens")


def select_comparable_rows(study: Study) -> pl.DataFrame:
    """Return a study's rows without the columns that differ between runs of the same seed."""
    return study.rows.drop(RUN_COLUMNS).sort("config_key", "seed")


def assert_same_table(disturbed: str, undisturbed: str, name: str = "small") -> None:
    """Check that rows and printed tables of two stores are equal."""
    studies = load_records(name, disturbed), load_records(name, undisturbed)
    assert_frame_equal(*map(select_comparable_rows, studies))
    tables = [format_csv(build_tables(study)[0]).encode() for study in studies]
    assert_frame_equal(*(pl.read_csv(table).drop("seconds") for table in tables))
