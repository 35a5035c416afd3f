"""Tables in each format, and complete reports, equal the committed golden files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reports.cells import Table
from reports.render import format_csv, format_tables_as_latex, format_tables_as_markdown
from reports.render.files import format_report
from reports.report import make_report
from tests.case_files import load_cases
from tests.reports import cases
from tests.reports.pages import (
    check_golden,
    make_tables_with_failures,
    make_tables_with_flags,
    make_tables_with_gaps,
    render_terminal,
    round_numbers,
)
from tests.reports.yaml_studies import load_yaml_study

GOLDEN = Path(__file__).parent / "golden"

_FORMATS: dict[str, Callable[[list[Table]], str]] = {
    "-80.txt": lambda tables: render_terminal(tables, 80),
    "-140.txt": lambda tables: render_terminal(tables, 140),
    ".md": format_tables_as_markdown,
    ".tex": format_tables_as_latex,
    ".csv": lambda tables: round_numbers("".join(format_csv(table) for table in tables)),
}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *(("failures", suffix) for suffix in _FORMATS),
        ("gaps", "-80.txt"),
        ("gaps", ".md"),
        ("flags", ".md"),
        ("flags", ".tex"),
    ],
)
def test_tables_with_failures_equal_the_golden_files(name: str, suffix: str) -> None:
    """The files show failures, missing cells and flags in several formats and widths."""
    make_tables = {
        "failures": make_tables_with_failures,
        "gaps": make_tables_with_gaps,
        "flags": make_tables_with_flags,
    }[name]
    check_golden(GOLDEN / f"{name}{suffix}", _FORMATS[suffix](make_tables()))


REPORTS = load_cases(__file__, "reports.yaml")


@pytest.mark.parametrize("name", REPORTS)
def test_reports_equal_the_golden_files(name: str) -> None:
    """The files show the answer, the tables and the notes of each kind of study."""
    case = REPORTS[name]
    if "study" in case:
        builder = cases.STUDIES[case["study"]](**case.get("arguments", {}))
    else:
        builder = load_yaml_study(name)
    if "without_metrics" in case:
        for run in builder.runs:
            for key in [key for key in run.metrics if case["without_metrics"] in key]:
                del run.metrics[key]
    report = make_report(builder.make_study(), **case.get("report", {}))
    check_golden(GOLDEN / f"reports/{name}.md", format_report("markdown", report))
