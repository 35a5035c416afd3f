"""Tables in each format, and whole reports, equal the committed pages (see check_golden)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reports.cells import Table
from reports.render import format_csv, format_tables_as_latex, format_tables_as_markdown
from reports.render.files import report_text
from reports.report import make_report
from tests.case_files import load_cases
from tests.reports import cases
from tests.reports.listed import listed
from tests.reports.pages import check_golden, collapsed, eventful, shortened, terminal_text, torn

GOLDEN = Path(__file__).parent / "golden"

_FORMS: dict[str, Callable[[list[Table]], str]] = {
    "-80.txt": lambda tables: terminal_text(tables, 80),
    "-140.txt": lambda tables: terminal_text(tables, 140),
    ".md": format_tables_as_markdown,
    ".tex": format_tables_as_latex,
    ".csv": lambda tables: shortened("".join(format_csv(table) for table in tables)),
}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *(("eventful", form) for form in _FORMS),
        ("torn", "-80.txt"),
        ("torn", ".md"),
        ("collapsed", ".md"),
        ("collapsed", ".tex"),
    ],
)
def test_pages_with_failures_equal_the_committed_ones(name: str, form: str) -> None:
    """They show failed rows, missing cells and flags in every format and width."""
    builder = {"eventful": eventful, "torn": torn, "collapsed": collapsed}[name]()
    check_golden(GOLDEN / f"{name}{form}", _FORMS[form](builder))


REPORTS = load_cases(__file__, "reports.yaml")


@pytest.mark.parametrize("name", REPORTS)
def test_reports_equal_the_committed_ones(name: str) -> None:
    """Each kind of study has its answer, tables and notes."""
    case = REPORTS[name]
    fields = case.get("with", {})
    if "of" in case:
        builder = cases.STUDIES[case["of"]](**fields)
    else:
        builder = listed(case.get("listed", name), **fields)
    for place in case.get("failed", ()):
        builder.runs[place].tags["ship.state"] = "FAIL"
    for run in builder.runs if "without" in case else ():
        for key in [key for key in run.metrics if case["without"] in key]:
            del run.metrics[key]
    report = make_report(builder.study(), **case.get("ask", {}))
    check_golden(GOLDEN / f"reports/{name}.md", report_text("markdown", report))
