"""Texts of a store are untrusted input: no program that opens a report executes them."""

import csv
import io
from dataclasses import replace

import pytest

from reports.cells import Column, Counts, Row, Table, Text, Value
from reports.charts import adapt_style_to_page, make_study_charts, to_safe_json
from reports.errors import ReportError
from reports.render import format_tables_as_latex
from reports.render.files import report_files, report_text
from reports.render.markup import escape_markdown
from reports.render.page import render_table, report_page
from reports.render.spreadsheet import format_csv
from reports.report import Report, make_report
from reports.stats import Estimate
from reports.study.load import load_records
from tests.case_files import load_cases
from tests.reports.builder import StoreBuilder, scores
from tests.reports.studies import one_factor

ELEMENT = "<img src=x onerror=alert(1)>"
FORMULAS = (
    '=HYPERLINK("http://x.test?"&A1,"y")', "+1+cmd|' /C calc'!A0", "-1+1|x", "@SUM(A1)",
    "\t=1+1", "＝1+1",
)  # fmt: skip


def labeled(label: str, heading: str = "level") -> Table:
    """A table of one row; its numbers are negative, which is no formula."""
    columns = (Column("level", heading, align="left"), Column("n", "n"), Column("new", "New"))
    new = Value(Estimate(-1.5, -2.0, None, 1))
    row = Row({"level": Text(label), "n": Counts(1), "new": new})
    return Table("x", "x", columns, (row, row), (label,))


def study_of(levels: list[str], name: str = "study", reason: str = "") -> Report:
    """A study of one factor with such levels."""
    builder = StoreBuilder(name=name, factors=one_factor("backbone", levels, levels[0]))
    for place, level in enumerate(levels):
        builder.trial({"backbone": level}, {seed: scores(60 + place + seed) for seed in (0, 1)})
    builder.trial({"backbone": levels[0]}, {2: scores(1)}, state="FAIL", reason=reason)
    return make_report(builder.study())


def test_no_cell_of_a_csv_is_a_formula() -> None:
    """No cell or heading of a CSV file is one; the original text follows an apostrophe."""
    report = study_of([*FORMULAS, "b"], reason=FORMULAS[0])
    texts = [data.decode() for name, data in report_files(report).items() if name.endswith(".csv")]
    texts += [report_text("csv", report)]
    texts += [format_csv(labeled("x", heading=formula)) for formula in FORMULAS]
    cells = {cell for text in texts for row in csv.reader(io.StringIO(text)) for cell in row}
    assert {f"'{formula}" for formula in FORMULAS} <= cells
    assert cells.isdisjoint(FORMULAS)


def test_numbers_of_a_csv_stay_numbers() -> None:
    """A minus sign does not make a number a formula."""
    (first, _) = csv.DictReader(io.StringIO(format_csv(labeled("-4"))))
    assert (first["level"], first["new_mean"], first["new_low"]) == ("-4", "-1.5", "-2.0")


@pytest.mark.parametrize("text", ["{{" + ELEMENT + "}} " + ELEMENT, ELEMENT, "{{x}}"])
def test_a_heading_is_no_element_of_the_page(text: str) -> None:
    """This is also true if it looks like a unit."""
    html = render_table(labeled(text, heading=text)).replace("&#123;", "{")
    assert "<img" not in html
    assert html.count(text.replace("<", "&lt;").replace(">", "&gt;")) == 3


def test_a_page_shows_markup_as_text() -> None:
    """This is true for descriptions, levels, reasons, tables, charts and direction marks."""
    text = "a\x00b\x1b[2Jc\u202ed"
    report = study_of([text, "b", "c"], reason=text)
    report = replace(report, study=replace(report.study, description=text, versions={"x": text}))
    specs = to_safe_json([adapt_style_to_page(chart.spec) for chart in make_study_charts(report)])
    shown = report_page(report)
    for where in (specs, shown, render_table(labeled(text, heading=text))):
        assert not set("\x00\x1b\u202e") & set(where)
        assert "\\u202ed" in where
    assert shown.count(r"a\x00b\x1b[2Jc\u202ed") >= 5
    assert r"\\x00b\\x1b[2Jc\\u202ed" in specs  # as JSON has it


@pytest.mark.parametrize("label", ["[1, 2]", "*", " [x"])
def test_latex_does_not_parse_a_label_as_an_argument(label: str) -> None:
    """After a line break, a bracket would be a distance and a star part of the command."""
    text = "".join(format_tables_as_latex([labeled(label, heading=f"a / {label}")]).split())
    assert r"\\[" not in text.replace(r"\\[-2pt]", "") and r"\\*" not in text
    assert text.count("{}" + "".join(label.split())) >= 2


@pytest.mark.parametrize(("text", "shown"), load_cases(__file__, "markdown.yaml"))
def test_markdown_shows_a_text_as_it_is(text: str, shown: str) -> None:
    """A text becomes no heading, list, emphasis, element, entity or formula."""
    assert escape_markdown(text) == shown


def test_messages_show_names_of_the_store_as_text(store_uri: str) -> None:
    """The names of studies come from the store and may have control characters."""
    uri = StoreBuilder(name="a\x1b[2Jb\nc").write(store_uri)
    with pytest.raises(ReportError) as error:
        load_records("none", uri)
    assert str(error.value).isprintable() and r"\x1b[2J" in str(error.value)
