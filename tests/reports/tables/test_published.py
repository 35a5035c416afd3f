"""Published figures next to measured ones: what can be compared, and the differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from reports.cells import Quantity, Table, Text
from reports.render import (
    format_csv,
    format_tables_as_latex,
    format_tables_as_markdown,
    report_files,
    report_text,
)
from reports.report import make_report
from reports.tables import make_published_table
from reports.tables.published import (
    AVERAGE_OF_ALL,
    get_published_value,
    list_published_datasets,
    read_published_results,
)
from tests.case_files import load_cases
from tests.reports.builder import StoreBuilder, scores

CASES = load_cases(__file__, "papers.yaml")
SEEDS = (0, 1, 2)
COOP = [name for method, name in read_published_results() if method == ("coop", "none")]
DATASETS = [name for name in COOP if name != AVERAGE_OF_ALL]
THEIRS = {"backbone": "ViT-B-16-quickgelu:openai", "dataset": "caltech101"}
FINETUNER = {"key": "finetuner", "levels": ["coop", "gda"], "log": False, "baseline": "coop"}
DATASET = {"key": "dataset", "levels": list(DATASETS), "log": False, "baseline": DATASETS[0]}


def builder(
    factors: Sequence[Mapping[str, Any]],
    assignments: Sequence[Mapping[str, Any]],
    constants: Mapping[str, str] = THEIRS,
) -> StoreBuilder:
    """A study with the same numbers in every setting: Base 98, New 94 + seed."""
    result = StoreBuilder(factors=factors, constants=constants, seeds=SEEDS)
    for assignment in assignments:
        result.trial(assignment, {s: scores(94.0 + s, 98.0) for s in SEEDS})
    return result


def rows(table: Table) -> list[tuple[str, str]]:
    """Configuration and dataset of each row."""
    named = [(row.cells["configuration"], row.cells["dataset"]) for row in table.rows]
    return [(a.text, b.text) for a, b in named if isinstance(a, Text) and isinstance(b, Text)]


@pytest.mark.parametrize(("constants", "says"), CASES["incomparable"])
def test_results_that_cannot_be_compared_have_a_note(constants: dict[str, str], says: str) -> None:
    """The note is in every format."""
    study = builder([], [{}], {**THEIRS, **constants}).study()
    table = make_published_table(study)
    assert table.rows == ()
    assert any(says in note for note in table.notes)
    report = make_report(study, published=True)
    assert "no result that can be compared" in format_tables_as_markdown(report.all_tables)
    assert "no result that can be compared" in format_tables_as_latex(report.all_tables)
    assert "no result that can be compared" in " ".join(report_text("terminal", report).split())
    assert format_csv(table).count("\n") == 1
    (page,) = (c for name, c in report_files(report).items() if name.endswith(".html"))
    assert b"no result that can be compared" in page
    assert report.stamp != make_report(study).stamp


def test_averages_are_over_all_datasets_or_none() -> None:
    """H is that of the averages. A study may be over other datasets, too."""
    constants = {**THEIRS, "generator.name": "none"}
    every = [{"finetuner": f, "dataset": d} for f in ("coop", "gda") for d in DATASETS]
    table = make_published_table(builder([FINETUNER, DATASET], every, constants).study())
    assert rows(table) == [
        *(("coop", dataset) for dataset in DATASETS),
        ("coop", AVERAGE_OF_ALL),
        ("gda", AVERAGE_OF_ALL),
    ]
    cells = table.rows[-1].cells
    h = cells["published_harmonic_mean"]
    assert isinstance(h, Quantity) and h.number == pytest.approx(78.97, abs=0.01)
    few = make_published_table(builder([FINETUNER, DATASET], every[:-1], constants).study())
    assert ("gda", AVERAGE_OF_ALL) not in rows(few) and ("coop", AVERAGE_OF_ALL) in rows(few)
    more = [*every, {"finetuner": "gda", "dataset": "emoji"}]
    assert rows(
        make_published_table(builder([FINETUNER, DATASET], more, constants).study())
    ) == rows(table)


@pytest.mark.parametrize(("finetuner", "generator", "h"), CASES["averages"])
def test_averages_agree_with_the_published_h(finetuner: str, generator: str, h: float) -> None:
    """Each published average is that of the published figures of the datasets."""
    method = (finetuner, generator)
    rows = {name: row for (of, name), row in read_published_results().items() if of == method}
    whole = rows[AVERAGE_OF_ALL]
    assert get_published_value(whole, "harmonic_mean") == pytest.approx(h, abs=0.011)
    assert set(rows) in ({AVERAGE_OF_ALL}, {AVERAGE_OF_ALL, *list_published_datasets()})
    for metric in ("base", "new") if len(rows) > 1 else ():
        each = [get_published_value(rows[name], metric) for name in DATASETS]
        assert sum(each) / 11 == pytest.approx(get_published_value(whole, metric), abs=0.02)
