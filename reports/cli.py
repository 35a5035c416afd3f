"""`ship-report NAME`: the tables and figures of a study, read from MLflow."""

import enum
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.command import INCOMPLETE, USER_MISTAKE, Command, start
from harness.store import Publication
from harness.wording import printable, redacted
from reports.errors import EmptyStudyError, ReportError

if TYPE_CHECKING:
    from harness.store import Run
    from reports.report import Report

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Format(enum.StrEnum):
    """What --format prints."""

    terminal = "terminal"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"


def main() -> None:
    """Entry point of the script."""
    start(app)


def render_several(names: list[str], tracking_uri: str | None, out: Path) -> None:
    """Write one page over several studies, with a page of each; print what each says.

    Args:
        names: of the studies; none: every study of the store that has something to report.
        tracking_uri: None: MLFLOW_TRACKING_URI, else ./mlflow.db.
        out: folder of the pages.

    Raises:
        ReportError: unreadable store, a study that is named and unknown, or an unwritable folder
            (one line).
        EmptyStudyError: a ReportError; there is nothing to report.
    """
    from harness.store import default_tracking_uri
    from reports.render import overview_files, write_files
    from reports.report import reports_of

    uri = tracking_uri or default_tracking_uri()
    files, lines, left_out = overview_files(reports_of(uri, names))
    many = len(files) - 1
    if not many:
        empty = all(isinstance(error, EmptyStudyError) for error in left_out)
        kind = EmptyStudyError if empty else ReportError
        raise kind("; ".join(map(str, left_out)) or f"{redacted(uri)}: no study here")
    write_files(files, out)
    typer.echo("\n".join(map(printable, lines)))
    typer.echo(f"\npage: {out / 'index.html'} ({many} {'study' if many == 1 else 'studies'})")


@dataclass(frozen=True)
class Prepared:
    """A report that is made, and not shown yet.

    publication: what the study's own run in MLflow shows of it.
    """

    report: "Report"
    publication: Publication

    def show(self, out: Path) -> None:
        """Print the tables and write the files to a folder.

        One that has them, by its page's stamp, is left as it is.
        """
        from reports.render import is_page_of, print_report, write_files

        told = "as it was"
        if not is_page_of(out / self.publication.page, self.publication.stamp):
            told = f"{len(write_files(self.publication.files(), out))} files"
        print_report(self.report, f"report: {out} ({told})")


def prepare(
    study_name: str, tracking_uri: str | None = None, known: Sequence["Run"] = ()
) -> Prepared:
    """Make a study's report now, and show it later.

    Args:
        study_name: of its MLflow experiment.
        tracking_uri: None: MLFLOW_TRACKING_URI, else ./mlflow.db.
        known: See load_records.

    Raises:
        ReportError: unreadable store or unknown study (one line).
        EmptyStudyError: a ReportError; no run of the study has ended yet.
    """
    from reports.render import make_publication
    from reports.report import make_report
    from reports.study import load_records

    made = make_report(load_records(study_name, tracking_uri, known))
    return Prepared(made, make_publication(made))


@app.command(cls=Command)
def report(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="The study, or several.")
    ] = None,
    *,
    all_: Annotated[
        bool, typer.Option("--all", help="One page over all studies of the store.")
    ] = False,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            "--tracking-uri", help="MLflow store; default: $MLFLOW_TRACKING_URI, else ./mlflow.db."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder of the report; default: ./NAME-report, of several ./studies-report.",
        ),
    ] = None,
    format_: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Print only this (terminal, markdown, latex, csv; repeatable); files only with "
            "--out. csv is one CSV of all tables, told apart by its column table; --out has one "
            "a table.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="METRIC",
            help="What differences, p-values and figures are of: a test metric of the study's "
            "protocol, or quality/MEASURE (a wrong one lists them); default: harmonic_mean, or "
            "accuracy.",
        ),
    ] = None,
    figures: Annotated[
        bool, typer.Option("--figures", help="Every chart of the page as PNG, SVG and PDF, too.")
    ] = False,
    notes: Annotated[
        bool, typer.Option("--notes", help="Print what the columns are, too.")
    ] = False,
    width: Annotated[
        int | None,
        typer.Option(
            "--width",
            metavar="N",
            min=40,
            help="Characters of a printed line; default: the terminal's, 160 in a file.",
        ),
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="What papers report of the same methods, beside what the study measured.",
        ),
    ] = False,
) -> None:
    """Print a study's ablation tables and write them (Markdown, LaTeX, CSV, HTML, PNG, PDF).

    Of several studies, or with --all, one page says what each has come to, and leads to theirs.

    Exit code 2: no such study, store or metric; 3: nothing of it has ended yet; 141: nobody reads
    what is printed.
    """
    # A store that is down should say so in seconds, not after MLflow's minutes of retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    asked = names or []
    several = all_ or len(asked) > 1
    of_one = any((format_, figures, metric, published, notes, width))
    if all_ == bool(asked):
        raise typer.BadParameter("give the name of a study, names of several, or --all alone")
    if several and of_one:
        raise typer.BadParameter("of several studies, only --tracking-uri and --out can be given")
    try:
        if several:
            render_several(asked, tracking_uri, out or Path.cwd() / "studies-report")
            return
        from reports.render import FILE_WIDTH, file_name, print_report, text_of, write_report
        from reports.report import make_report
        from reports.study import load_records

        study = load_records(asked[0], tracking_uri)
        made = make_report(study, metric, published=published)
        if format_:
            if out is not None:
                write_report(made, out, every_figure=figures)
            texts = (text_of(one, made, width or FILE_WIDTH) for one in format_)
            typer.echo("\n".join(texts), nl=False)
            return
        folder = out or Path.cwd() / f"{file_name(study.name)}-report"
        files = write_report(made, folder, every_figure=figures)
        print_report(made, f"report: {folder} ({len(files)} files)", legend=notes, width=width)
    except ReportError as error:
        typer.echo(str(error), err=True)
        code = INCOMPLETE if isinstance(error, EmptyStudyError) else USER_MISTAKE
        raise typer.Exit(code) from error
