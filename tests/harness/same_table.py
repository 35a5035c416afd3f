"""Check that a disturbed study ends with the table of an undisturbed one."""

import polars as pl
from polars.testing import assert_frame_equal

from reports.render import format_csv
from reports.study.load import Study, load_records
from reports.tables.build import build_tables

# What no two runs share: which run it was, when, and what it cost.
OF_A_RUN = ("run_id", "started", "seconds", "peak_memory_mb", "text_tokens")


def select_comparable_rows(study: Study) -> pl.DataFrame:
    """Return a study's rows without columns that differ between equal runs."""
    return study.rows.drop(OF_A_RUN).sort("config_key", "seed")


def assert_same_table(disturbed: str, calm: str, name: str = "small") -> None:
    """Check that rows and printed tables of two stores are equal."""
    ours, theirs = load_records(name, disturbed), load_records(name, calm)
    assert_frame_equal(select_comparable_rows(ours), select_comparable_rows(theirs))
    printed = [format_csv(build_tables(study)[0]).encode() for study in (ours, theirs)]
    assert_frame_equal(*(pl.read_csv(text).drop("seconds") for text in printed))
