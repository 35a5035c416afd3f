"""`ship-report NAME`: the tables and figures of a study, read from MLflow."""

import enum
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.command import INCOMPLETE, USER_MISTAKE, Command, refuse, start
from harness.store import Publication
from harness.wording import printable, redacted
from reports.errors import EmptyStudyError, ReportError

if TYPE_CHECKING:
    from harness.store import Run
    from reports.report import Report

_EPILOG = (
    "Exit codes:\n\n"
    "0: the report was printed or written\n\n"
    "2: the command has a mistake, or there is no such study, store or metric\n\n"
    "3: no run of the study has ended yet\n\n"
    "130: interrupted\n\n"
    "141: the pipe that reads the output was closed"
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Format(enum.StrEnum):
    """Output format of --format."""

    terminal = "terminal"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"


def main() -> None:
    """Run the command line; this is the script's entry point."""
    start(app)


def render_several(names: list[str], tracking_uri: str | None, out: Path) -> None:
    """Write an overview page of several studies and a page per study, and print the overview.

    Args:
        names: Names of the studies. If empty, every study of the store that has something to
            report.
        tracking_uri: MLflow tracking URI. Defaults to MLFLOW_TRACKING_URI, else ./mlflow.db.
        out: Folder of the pages.

    Raises:
        ReportError: If the store cannot be read, a named study is unknown, or the folder cannot be
            written (one line).
        EmptyStudyError: If there is nothing to report. It is a ReportError.
    """
    from harness.store import default_tracking_uri
    from reports.render import overview_files, write_files
    from reports.report import make_reports

    uri = tracking_uri or default_tracking_uri()
    files, lines, left_out = overview_files(make_reports(uri, names))
    n_studies = len(files) - 1
    if not n_studies:
        is_empty = all(isinstance(error, EmptyStudyError) for error in left_out)
        kind = EmptyStudyError if is_empty else ReportError
        raise kind("; ".join(map(str, left_out)) or f"{redacted(uri)}: the store has no study")
    write_files(files, out)
    typer.echo("\n".join(map(printable, lines)))
    noun = "study" if n_studies == 1 else "studies"
    typer.echo(f"\npage: {out / 'index.html'} ({n_studies} {noun})")


@dataclass(frozen=True)
class Prepared:
    """A report that has been made and not yet been shown.

    Attributes:
        report: The report.
        publication: The files of the report that the study's run in MLflow shows.
    """

    report: "Report"
    publication: Publication

    def show(self, out: Path) -> None:
        """Print the tables and write the files into a folder.

        A folder whose page has the report's stamp is left as it is.
        """
        from reports.render import is_page_of, print_report, write_files

        status = "as it was"
        if not is_page_of(out / self.publication.page, self.publication.stamp):
            status = f"{len(write_files(self.publication.files(), out))} files"
        print_report(self.report, f"report: {out} ({status})")


def prepare(
    study_name: str, tracking_uri: str | None = None, recent_runs: Sequence["Run"] = ()
) -> Prepared:
    """Make a study's report now, to show it later.

    Args:
        study_name: Name of the study's MLflow experiment.
        tracking_uri: MLflow tracking URI. Defaults to MLFLOW_TRACKING_URI, else ./mlflow.db.
        recent_runs: Runs of the experiment that have just been read, oldest first. See
            load_records.

    Raises:
        ReportError: If the store cannot be read, or if the study is unknown (one line).
        EmptyStudyError: If no run of the study has ended yet. It is a ReportError.
    """
    from reports.render import make_publication
    from reports.report import make_report
    from reports.study import load_records

    report = make_report(load_records(study_name, tracking_uri, recent_runs))
    return Prepared(report, make_publication(report))


@app.command("ship-report", cls=Command, epilog=_EPILOG)
def report(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Names of one or more studies.")
    ] = None,
    *,
    all_: Annotated[
        bool, typer.Option("--all", help="Report all studies of the store on one page.")
    ] = False,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            "--tracking-uri",
            metavar="URI",
            help="Address of the MLflow store. Defaults to $MLFLOW_TRACKING_URI, else ./mlflow.db.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder of the report. Defaults to ./NAME-report, or to ./studies-report for "
            "several studies.",
        ),
    ] = None,
    format_: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Print the report in this format: terminal, markdown, latex or csv. latex and "
            "csv have only its tables; csv is one CSV of all tables, with a `table` column. Files "
            "(in every format, with one CSV per table) are written only if --out is given, too. "
            "Repeatable.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="METRIC",
            help="Metric of the differences, p-values and figures: a test metric of the study's "
            "protocol, or quality/MEASURE. The error for an unknown metric lists the choices. "
            "Defaults to harmonic_mean, or to accuracy if the protocol has no harmonic mean.",
        ),
    ] = None,
    figures: Annotated[
        bool,
        typer.Option(
            "--figures",
            help="Write all charts of the page as PNG, SVG and PDF, not only those of factors.",
        ),
    ] = False,
    notes: Annotated[
        bool, typer.Option("--notes", help="Print the notes that explain the columns, too.")
    ] = False,
    width: Annotated[
        int | None,
        typer.Option(
            "--width",
            metavar="N",
            min=40,
            help="Width of the printed tables in characters. Defaults to the terminal's width, "
            "or to 160 if the output is not a terminal.",
        ),
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Add a table that compares the study's results with those that papers report "
            "for the same methods.",
        ),
    ] = False,
) -> None:
    """Print a study's report and write its files (Markdown, LaTeX, CSV, HTML, PNG, SVG and PDF).

    With several studies, or with --all, write one page that summarizes and links all of them.
    """
    # MLflow retries for minutes by default; a store that is down should fail within seconds.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    study_names = names or []
    has_several = all_ or len(study_names) > 1
    has_single_study_options = any((format_, figures, metric, published, notes, width))
    if all_ == bool(study_names):
        refuse(["give either the names of one or more studies, or --all"])
    if has_several and has_single_study_options:
        refuse(["a report of several studies accepts only --tracking-uri and --out"])
    try:
        if has_several:
            render_several(study_names, tracking_uri, out or Path.cwd() / "studies-report")
            return
        from reports.render import FILE_WIDTH, file_name, print_report, report_text, write_report
        from reports.report import make_report
        from reports.study import load_records

        study = load_records(study_names[0], tracking_uri)
        study_report = make_report(study, metric, published=published)
        if format_:
            if out is not None:
                write_report(study_report, out, every_figure=figures)
            texts = (report_text(form, study_report, width or FILE_WIDTH) for form in format_)
            typer.echo("\n".join(texts), nl=False)
            return
        folder = out or Path.cwd() / f"{file_name(study.name)}-report"
        files = write_report(study_report, folder, every_figure=figures)
        print_report(
            study_report, f"report: {folder} ({len(files)} files)", legend=notes, width=width
        )
    except ReportError as error:
        typer.echo(str(error), err=True)
        code = INCOMPLETE if isinstance(error, EmptyStudyError) else USER_MISTAKE
        raise typer.Exit(code) from error
