"""Outputs of a report: printed text, files, and the parts that MLflow shows."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from rich.console import Console, Group, RenderableType

from harness.store import HEADLINE, Publication, make_interval_metrics
from reports.cells import LEVELS, Table
from reports.charts import FIGURES, make_study_charts, render_chart
from reports.errors import ReportError
from reports.estimates_frame import make_estimates_frame
from reports.render.markup import (
    escape_markdown,
    format_answer_as_markdown,
    format_tables_as_latex,
    format_tables_as_markdown,
)
from reports.render.page import (
    make_entry,
    make_overview_lines,
    render_overview_page,
    render_paired_page,
    render_report_page,
)
from reports.render.spreadsheet import escape_formulas, format_combined_csv, format_csv
from reports.render.terminal import (
    FILE_WIDTH,
    make_answer_view,
    make_terminal_view,
    render_plain_text,
)
from reports.report import PairedReport, Report
from reports.tables import describe_run_differences, make_headline

MAX_PRINTED_ROWS = 100  # maximum number of rows of a table in a terminal
_STAMP_CHARACTERS = 1000  # characters at the start of a page that contain its stamp


def format_report(form: str, report: Report | PairedReport, width: int = FILE_WIDTH) -> str:
    """Return a report as text.

    Args:
        form: "terminal" or "markdown" for the answer and the tables; "latex" or "csv" for only the
            tables.
        report: The report.
        width: Width of the terminal format in characters. Ignored by the other formats.
    """
    tables = report.all_tables
    match form:
        case "markdown":
            heading = f"### {escape_markdown(report.name)}: the answer"
            answer = format_answer_as_markdown(report.answer)
            return f"{heading}\n\n{answer}{format_tables_as_markdown(tables)}"
        case "latex":
            return format_tables_as_latex(tables)
        case "csv":
            return format_combined_csv(tables)
        case _:
            return render_plain_text(make_report_view(report, width), width)


def make_report_view(
    report: Report | PairedReport, width: int, *, legend: bool = True
) -> RenderableType:
    """Return the answer and the tables for a console.

    Args:
        report: Report of a study, or of two compared studies.
        width: Width of the console in characters.
        legend: Whether to include notes that explain the columns.
    """
    answer = make_answer_view(report.name, report.answer)
    return Group(answer, make_terminal_view(report.all_tables, width, legend=legend))


def print_report(
    report: Report | PairedReport,
    last_line: str,
    *,
    legend: bool = False,
    width: int | None = None,
) -> None:
    """Print the answer and the tables of a report, followed by a line.

    Args:
        report: Report of a study, or of two compared studies.
        last_line: The line after the tables.
        legend: Whether to include notes that explain the columns.
        width: Width in characters. Defaults to the environment variable COLUMNS. If it is not
            set, the default is the terminal's width, or FILE_WIDTH if the output is no terminal.
    """
    console = Console(highlight=False, width=width)
    if width is None and not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = FILE_WIDTH
    limited_report = replace(report, tables=tuple(map(_limit_rows, report.tables)))
    console.print(make_report_view(limited_report, console.width, legend=legend))
    console.print(last_line, soft_wrap=True, markup=False)


def _limit_rows(table: Table) -> Table:
    """Return a table with at most its first MAX_PRINTED_ROWS rows, and a note if it has more.

    Only rows of the section LEVELS are limited and counted. All controls are kept.
    """
    rows = dict(table.sections()).get(LEVELS, [])
    if len(rows) <= MAX_PRINTED_ROWS:
        return table
    note = f"the first {MAX_PRINTED_ROWS} of {len(rows):,} rows; the page has more"
    return replace(table, max_rows=MAX_PRINTED_ROWS, notes=(note, *table.notes))


def is_page_of(path: Path, stamp: str) -> bool:
    """Return True if a file exists and is the page of the report with the given stamp."""
    try:
        with path.open(encoding="utf-8") as stream:
            return f'content="{stamp}"' in stream.read(_STAMP_CHARACTERS)
    except (OSError, UnicodeDecodeError):
        return False


def write_report(report: Report, out: Path, *, every_figure: bool = False) -> list[Path]:
    """Write all files of a report to a folder; see make_report_files and write_files."""
    return write_files(make_report_files(report, every_figure=every_figure), out)


def make_report_files(report: Report, *, every_figure: bool = False) -> dict[str, bytes]:
    """Return the content of a report's files by name: tables, figures and results.

    Args:
        report: Report of a study.
        every_figure: Whether to export all charts of the page, instead of only those of factors.
    """
    files: dict[str, bytes] = {}
    study, tables = report.study, report.all_tables
    name = make_file_name(study.name)
    charts = make_study_charts(report)
    for chart in charts:
        if every_figure or chart.section == FIGURES:
            stem = f"{name}-{make_file_name(chart.name)}"
            files |= {f"{stem}.{kind}": data for kind, data in render_chart(chart).items()}
    texts = {
        f"{name}.txt": format_report("terminal", report),
        f"{name}.md": format_report("markdown", report),
        f"{name}.tex": format_report("latex", report),
        **{f"{name}-{make_file_name(table.name)}.csv": format_csv(table) for table in tables},
        f"{name}-estimates.csv": escape_formulas(make_estimates_frame(tables)).write_csv(),
        f"{name}-rows.csv": escape_formulas(study.rows).write_csv(),
    }
    files = {file: text.encode() for file, text in texts.items()} | files
    # The page is written last: its stamp shows that all other files have been written.
    return files | {f"{name}.html": render_report_page(report, charts).encode()}


def make_paired_files(report: PairedReport) -> dict[str, bytes]:
    """Return the content of the files about two compared studies, by name.

    Args:
        report: The comparison.
    """
    name = make_paired_name(report.paired.first.name, report.paired.second.name)
    texts = {
        f"{name}.txt": format_report("terminal", report),
        f"{name}.md": format_report("markdown", report),
        f"{name}.tex": format_report("latex", report),
        **{f"{name}-{table.name}.csv": format_csv(table) for table in report.all_tables},
        f"{name}.html": render_paired_page(report),
    }
    return {file: text.encode() for file, text in texts.items()}


def make_paired_name(first: str, second: str) -> str:
    """Return the name, without extension, of the files about two compared studies."""
    return f"{make_file_name(first)}-{make_file_name(second)}"


def make_overview_files(
    reports: Iterable[Report | ReportError],
) -> tuple[dict[str, bytes], list[str], list[ReportError]]:
    """Return the overview page of several studies, index.html, and a page per study.

    Args:
        reports: Report of each study in the order of the overview, or the error that prevented it.
            The page of a report is made before the next report is requested, to save memory.

    Returns:
        Content of the files by name; lines of the overview for a terminal; and the errors of
        studies without a report.
    """
    files: dict[str, bytes] = {}
    entries = []
    left_out: list[ReportError] = []
    for report in reports:
        if isinstance(report, ReportError):
            left_out.append(report)
            continue
        stem = make_file_name(report.study.name)
        while f"{stem}.html" in files or stem == "index":
            stem += "-"
        files[f"{stem}.html"] = render_report_page(report, make_study_charts(report)).encode()
        entries.append(make_entry(report, f"{stem}.html"))
    reasons = [str(error) for error in left_out]
    lines = list(make_overview_lines(entries, reasons))
    return {"index.html": render_overview_page(entries, reasons).encode(), **files}, lines, left_out


def write_files(files: Mapping[str, bytes], out: Path) -> list[Path]:
    """Write the files of a report to a folder, which is created if necessary.

    Args:
        files: Content of the files by name.
        out: The folder.

    Returns:
        Paths of the files, in the order of `files`.

    Raises:
        ReportError: If the folder cannot be created, or a file cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [_write_atomically(out / file, data) for file, data in files.items()]
    except OSError as error:
        raise ReportError(f"{out}: cannot write the report: {error.strerror or error}") from error


def make_file_name(text: str) -> str:
    """Return a text in which every character that is unsafe in file names is replaced by "-".

    Names of studies, factors and datasets come from the store, which is untrusted input.
    """
    return re.sub(r"[^\w.-]", "-", text)


def _write_atomically(path: Path, data: bytes) -> Path:
    """Write a temporary file and rename it, so that readers see either the old or the new content.

    Returns:
        `path`.
    """
    temporary_path = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary_path.write_bytes(data)
        temporary_path.replace(path)
    finally:
        temporary_path.unlink(missing_ok=True)
    return path


def make_publication(report: Report) -> Publication:
    """Return the parts of a report that MLflow shows.

    Args:
        report: Report with the protocol's main metric.
    """
    study = report.study
    best_result = make_headline(study, report.metric)
    differences = (
        {f"vs_{name}": estimate for name, estimate in best_result.differences.items()}
        if best_result
        else {}
    )
    estimates = {"best": best_result.estimate, **differences} if best_result else {}
    metrics: dict[str, float] = {}
    for name, estimate in estimates.items():
        key = f"{HEADLINE}{name}/{report.metric}"
        metrics |= {key: estimate.mean, **make_interval_metrics(key, estimate.low, estimate.high)}
    # MLflow's list of experiments shows this as plain text, without rendering Markdown
    paragraphs = [*map(escape_markdown, report.answer.lines), study.description]
    return Publication(
        metrics=metrics,
        params={name: text for name, text in study.constants.items() if text},
        best=best_result.configuration if best_result else "",
        note=_make_run_note(report),
        answer="\n\n".join(filter(None, paragraphs)) + "\n",
        page=f"{make_file_name(study.name)}.html",
        stamp=report.stamp,
        files=cache(lambda: make_report_files(report)),
        differences=describe_run_differences(study, report.metric),
    )


def _make_run_note(report: Report) -> str:
    """Return the description, the answer and the main table as Markdown."""
    main_report = replace(report, tables=report.main_tables[:1], factor_tables=())
    text, description = format_report("markdown", main_report), report.study.description
    return f"{description}\n\n{text}" if description else text
