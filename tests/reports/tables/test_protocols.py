"""Each protocol's own metrics, words and defaults; old stores and mixed ones."""

from typing import Any

import pytest

from reports.contract import ReportError
from reports.tables.build import build_tables
from tests.reports.builder import prompt_len
from tests.reports.studies import collapsing, cross_dataset, few_shot


@pytest.mark.parametrize(
    ("builder", "metric", "choices"),
    [
        (few_shot(), "new", "accuracy"),
        (cross_dataset(), "base", "accuracy/caltech101, accuracy/dtd, accuracy, source"),
        (collapsing(), "base", "seen, unseen, harmonic_mean, calibrated_seen, "),
        (collapsing(), "quality/beauty", ".*ausuc.*quality/mmd"),
    ],
)
def test_a_metric_that_the_protocol_lacks(builder: Any, metric: str, choices: str) -> None:
    """One line names the metrics that there are."""
    with pytest.raises(ReportError, match=rf"no test metric '{metric}'; metric may be: {choices}"):
        build_tables(builder.study(), metric)


@pytest.mark.parametrize(
    ("builder", "name"),
    [(few_shot(), "accuracy"), (cross_dataset(), "accuracy"), (collapsing(), "unseen")],
)
def test_complete_without_the_protocols_metric_is_a_failure(builder: Any, name: str) -> None:
    """What a result must have is the protocol's to say."""
    del builder.runs[0].metrics[f"seed_1/test/{name}"]
    rows = builder.study().rows
    failed = rows.filter(rows["state"] == "FAIL")
    assert failed["seed"].to_list() == [1]
    assert failed["reason"].to_list() == [f"no finite test/{name} logged"]


def test_an_old_store_is_base_to_new() -> None:
    """Without ship.protocol or the targets' param, the tables are what they were."""
    old = prompt_len()
    for run in old.runs:
        del run.tags["ship.protocol"], run.params["protocol"], run.params["targets"]
    new_tables, old_tables = build_tables(prompt_len().study()), build_tables(old.study())
    assert [table.rows for table in old_tables] == [table.rows for table in new_tables]
    assert [table.columns for table in old_tables] == [table.columns for table in new_tables]


@pytest.mark.parametrize(
    ("of", "protocol", "told"),
    [
        (9, "open_set", r"ship\.protocol: open_set: a study has one of base_to_new"),
        (1, "few_shot", r"ship\.protocol: base_to_new, few_shot: a study has one of"),
    ],
)
def test_protocols_that_no_table_has(of: int, protocol: str, told: str) -> None:
    """Neither one of a newer harness, nor metrics of two in one table."""
    builder = prompt_len()
    for run in builder.runs[:of]:
        run.tags["ship.protocol"] = protocol
    with pytest.raises(ReportError, match=told):
        builder.study()
