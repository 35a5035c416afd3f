"""Tables of published results next to measured ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from reports.cells import Quantity, Table, Text
from reports.render import (
    format_csv,
    format_report,
    format_tables_as_latex,
    format_tables_as_markdown,
    make_report_files,
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
from tests.reports.builder import StoreBuilder, make_scores

CASES = load_cases(__file__, "papers.yaml")
SEEDS = (0, 1, 2)
COOP = [name for method, name in read_published_results() if method == ("coop", "none")]
DATASETS = [name for name in COOP if name != AVERAGE_OF_ALL]
COOP_CONSTANTS = {"backbone": "ViT-B-16-quickgelu:openai", "dataset": "caltech101"}
FINETUNER = {"key": "finetuner", "levels": ["coop", "gda"], "log": False, "baseline": "coop"}
DATASET = {"key": "dataset", "levels": list(DATASETS), "log": False, "baseline": DATASETS[0]}


def make_builder(
    factors: Sequence[Mapping[str, Any]],
    assignments: Sequence[Mapping[str, Any]],
    constants: Mapping[str, str] = COOP_CONSTANTS,
) -> StoreBuilder:
    """Build a study with Base 98 and New 94 + seed in all configurations."""
    result = StoreBuilder(factors=factors, constants=constants, seeds=SEEDS)
    for assignment in assignments:
        result.add_run(assignment, {s: make_scores(94.0 + s, 98.0) for s in SEEDS})
    return result


def list_rows(table: Table) -> list[tuple[str, str]]:
    """Return the configuration and the dataset of each row."""
    cells = [(row.cells["configuration"], row.cells["dataset"]) for row in table.rows]
    return [(a.text, b.text) for a, b in cells if isinstance(a, Text) and isinstance(b, Text)]


@pytest.mark.parametrize(("constants", "text"), CASES["incomparable"])
def test_results_that_cannot_be_compared_have_a_note(constants: dict[str, str], text: str) -> None:
    """All formats have the note."""
    study = make_builder([], [{}], {**COOP_CONSTANTS, **constants}).make_study()
    table = make_published_table(study)
    assert table.rows == ()
    assert any(text in note for note in table.notes)
    report = make_report(study, published=True)
    assert "no result that can be compared" in format_tables_as_markdown(report.all_tables)
    assert "no result that can be compared" in format_tables_as_latex(report.all_tables)
    assert "no result that can be compared" in " ".join(format_report("terminal", report).split())
    assert format_csv(table).count("\n") == 1
    (page,) = (c for name, c in make_report_files(report).items() if name.endswith(".html"))
    assert b"no result that can be compared" in page
    assert report.stamp != make_report(study).stamp


def test_averages_are_over_all_datasets_or_none() -> None:
    """The average H is that of the averaged accuracies. Other datasets are ignored."""
    constants = {**COOP_CONSTANTS, "generator.name": "none"}
    factors = [FINETUNER, DATASET]
    assignments = [{"finetuner": f, "dataset": d} for f in ("coop", "gda") for d in DATASETS]
    table = make_published_table(make_builder(factors, assignments, constants).make_study())
    assert list_rows(table) == [
        *(("coop", dataset) for dataset in DATASETS),
        ("coop", AVERAGE_OF_ALL),
        ("gda", AVERAGE_OF_ALL),
    ]
    cells = table.rows[-1].cells
    h = cells["published_harmonic_mean"]
    assert isinstance(h, Quantity) and h.number == pytest.approx(78.97, abs=0.01)
    incomplete = make_builder(factors, assignments[:-1], constants).make_study()
    incomplete_rows = list_rows(make_published_table(incomplete))
    assert ("gda", AVERAGE_OF_ALL) not in incomplete_rows
    assert ("coop", AVERAGE_OF_ALL) in incomplete_rows
    more = [*assignments, {"finetuner": "gda", "dataset": "emoji"}]
    study = make_builder(factors, more, constants).make_study()
    assert list_rows(make_published_table(study)) == list_rows(table)


@pytest.mark.parametrize(("finetuner", "generator", "h"), CASES["averages"])
def test_averages_agree_with_the_published_h(finetuner: str, generator: str, h: float) -> None:
    """Each published average equals the average of the published results on the datasets."""
    expected_method = (finetuner, generator)
    rows = {
        dataset: row
        for (method, dataset), row in read_published_results().items()
        if method == expected_method
    }
    average = rows[AVERAGE_OF_ALL]
    assert get_published_value(average, "harmonic_mean") == pytest.approx(h, abs=0.011)
    assert set(rows) in ({AVERAGE_OF_ALL}, {AVERAGE_OF_ALL, *list_published_datasets()})
    for metric in ("base", "new") if len(rows) > 1 else ():
        values = [get_published_value(rows[name], metric) for name in DATASETS]
        assert sum(values) / 11 == pytest.approx(get_published_value(average, metric), abs=0.02)
