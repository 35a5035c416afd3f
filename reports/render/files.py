"""The files of a report: made whole or not at all."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from rich.console import Console, Group, RenderableType

from harness.store import HEADLINE, Publication, interval_metrics
from reports.cells import LEVELS, Table
from reports.charts import FIGURES, chart_bytes, study_charts
from reports.errors import ReportError
from reports.estimates import estimates
from reports.render.markup import answer_markdown, escaped, latex, markdown
from reports.render.page import entry, overview, overview_lines, page
from reports.render.spreadsheet import csv_stream, csv_text, no_formulas
from reports.render.terminal import FILE_WIDTH, answer_view, plain_text, terminal_view
from reports.report import Report
from reports.tables import headline

MOST_PRINTED = 100  # rows of a table in a terminal
_HEAD = 1000  # characters of a page in which its stamp stands


def text_of(form: str, report: Report, width: int = FILE_WIDTH) -> str:
    """The report as terminal or markdown text, or its tables as latex or csv (see csv_stream).

    Args:
        width: characters, of terminal.
    """
    tables = report.every_table
    match form:
        case "markdown":
            head = f"### {escaped(report.study.name)}: the answer"
            return f"{head}\n\n{answer_markdown(report.answer)}{markdown(tables)}"
        case "latex":
            return latex(tables)
        case "csv":
            return csv_stream(tables)
        case _:
            return plain_text(view(report, width), width)


def view(report: Report, width: int, *, legend: bool = True) -> RenderableType:
    """The answer for a console `width` characters wide, and the tables that it is made from."""
    answer = answer_view(report.study.name, report.answer)
    return Group(answer, terminal_view(report.every_table, width, legend=legend))


def print_report(
    report: Report, last: str, *, legend: bool = False, width: int | None = None
) -> None:
    """Print the answer and the tables, and a last line.

    Args:
        report: of a study.
        last: the last line.
        legend: whether notes say what the columns are, too.
        width: characters; None: the terminal's, or what COLUMNS says, and FILE_WIDTH of a file.
    """
    console = Console(highlight=False, width=width)
    if width is None and not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = FILE_WIDTH
    shorter = replace(report, tables=tuple(map(_begun, report.tables)))
    console.print(view(shorter, console.width, legend=legend))
    console.print(last, soft_wrap=True, markup=False)


def _begun(table: Table) -> Table:
    """A table's first rows, where it has many; a note says how many there are."""
    rows = dict(table.sections()).get(LEVELS, [])
    if len(rows) <= MOST_PRINTED:
        return table
    note = f"the first {MOST_PRINTED} of {len(rows):,} rows; the page has more"
    return replace(table, shown=MOST_PRINTED, notes=(note, *table.notes))


def is_page_of(path: Path, stamp: str) -> bool:
    """Whether a file is the page of a report with a stamp."""
    try:
        with path.open(encoding="utf-8") as stream:
            return f'content="{stamp}"' in stream.read(_HEAD)
    except (OSError, UnicodeDecodeError):
        return False


def write_report(report: Report, out: Path, *, every_figure: bool = False) -> list[Path]:
    """Make the files of a report and write them; see report_files and write_files."""
    return write_files(report_files(report, every_figure=every_figure), out)


def report_files(report: Report, *, every_figure: bool = False) -> dict[str, bytes]:
    """Every format, the rows behind the tables and the figures: name -> content.

    Args:
        report: of a study.
        every_figure: whether all of the page's charts become files, not those of factors alone.
    """
    files: dict[str, bytes] = {}
    study, tables = report.study, report.every_table
    name = file_name(study.name)
    charts = study_charts(report)
    for chart in charts:
        if every_figure or chart.section == FIGURES:
            own = f"{name}-{file_name(chart.name)}"
            files |= {f"{own}.{kind}": data for kind, data in chart_bytes(chart).items()}
    texts = {
        f"{name}.txt": text_of("terminal", report),
        f"{name}.md": text_of("markdown", report),
        f"{name}.tex": text_of("latex", report),
        **{f"{name}-{file_name(table.name)}.csv": csv_text(table) for table in tables},
        f"{name}-estimates.csv": no_formulas(estimates(tables)).write_csv(),
        f"{name}-rows.csv": no_formulas(study.rows).write_csv(),
    }
    files = {file: text.encode() for file, text in texts.items()} | files
    # the last: its stamp says that a folder has all of them
    return files | {f"{name}.html": page(report, charts).encode()}


def overview_files(
    reports: Iterable[Report | ReportError],
) -> tuple[dict[str, bytes], list[str], list[ReportError]]:
    """The page over several studies, index.html, and each one's own page.

    Args:
        reports: in their order; each is asked for when the one before is a page. An error in the
            place of one says why there is none.

    Returns:
        name -> content of the files; the same in words: lines for a terminal; and why studies have
        no report.
    """
    files: dict[str, bytes] = {}
    entries = []
    left_out: list[ReportError] = []
    for report in reports:
        if isinstance(report, ReportError):
            left_out.append(report)
            continue
        own = file_name(report.study.name)
        while f"{own}.html" in files or own == "index":
            own += "-"
        files[f"{own}.html"] = page(report, study_charts(report)).encode()
        entries.append(entry(report, f"{own}.html"))
    told = [str(error) for error in left_out]
    lines = list(overview_lines(entries, told))
    return {"index.html": overview(entries, told).encode(), **files}, lines, left_out


def write_files(files: Mapping[str, bytes], out: Path) -> list[Path]:
    """Write the files of a report.

    Returns:
        The files, in the order written.

    Raises:
        ReportError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [_replace(out / file, data) for file, data in files.items()]
    except OSError as error:
        raise ReportError(f"{out}: cannot write the report: {error.strerror or error}") from error


def file_name(text: str) -> str:
    """A name without what leads to another folder, or what no file may be called.

    Names of studies, factors and datasets come from the store, where others may write.
    """
    return re.sub(r"[^\w.-]", "-", text)


def _replace(path: Path, data: bytes) -> Path:
    """Write beside the target, then rename: a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def make_publication(report: Report) -> Publication:
    """What the study's own run shows of a report.

    Args:
        report: of the protocol's default metric.
    """
    study = report.study
    found = headline(study, report.metric)
    beside = {f"vs_{name}": one for name, one in found.beside.items()} if found else {}
    named = {"best": found.estimate, **beside} if found else {}
    metrics: dict[str, float] = {}
    for name, one in named.items():
        key = f"{HEADLINE}{name}/{report.metric}"
        metrics |= {key: one.mean, **interval_metrics(key, one.low, one.high)}
    # the list of experiments shows this text as it is written
    told = [*map(escaped, report.answer.lines), study.description]
    return Publication(
        metrics=metrics,
        params={name: text for name, text in study.constants.items() if text},
        best=found.setting if found else "",
        note=_note(report),
        answer="\n\n".join(filter(None, told)) + "\n",
        page=f"{file_name(study.name)}.html",
        stamp=report.stamp,
        files=cache(lambda: report_files(report)),
    )


def _note(report: Report) -> str:
    """Markdown: the description, the answer and the main table."""
    main = replace(report, tables=report.main[:1], together=())
    text, description = text_of("markdown", main), report.study.description
    return f"{description}\n\n{text}" if description else text
