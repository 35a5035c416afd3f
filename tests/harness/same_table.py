"""Whether a study that was disturbed ends with the table of one that was not."""

from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal
from rich.console import Console

from harness.config.study_config import StudyConfig
from harness.study.run import run_study
from reports.read.records import Study, load_records
from reports.render.plain import csv_text
from reports.tables.build import build_tables
from tests.harness import fakes

# What no two runs share: which run it was, when, and what it cost.
OF_A_RUN = ("run_id", "started", "seconds", "peak_memory_mb", "text_tokens")


def rows(study: Study) -> pl.DataFrame:
    """What reports read of a study, but for what no two runs share."""
    return study.rows.drop(OF_A_RUN).sort("setting_key", "seed")


def undisturbed(study: StudyConfig, store: Path, folder: Path) -> str:
    """Run a study in a store of its own, in this process; its URI.

    Args:
        store: an empty one, which is written to.
        folder: for log and cache.
    """
    uri = f"sqlite:///{store}"
    method = fakes.make_method(folder / "log")
    run_study(
        study,
        data_root=None,
        tracking_uri=uri,
        cache_dir=folder / "cache",
        method=method,
        console=Console(quiet=True),
        in_process=True,
    )
    return uri


def assert_same_table(disturbed: str, calm: str, name: str = "small") -> None:
    """The rows behind the tables are equal, and so is the table as it is printed."""
    ours, theirs = load_records(name, disturbed), load_records(name, calm)
    assert_frame_equal(rows(ours), rows(theirs))
    printed = [csv_text(build_tables(one)[0]).encode() for one in (ours, theirs)]
    assert_frame_equal(*(pl.read_csv(text).drop("seconds") for text in printed))
