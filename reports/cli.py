"""`ship-report NAME`: the tables and figures of a study, read from MLflow."""

import enum
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from reports.command import Command
from reports.contract import (
    EmptyStudyError,
    ReportError,
    collect_rarely,
    printable,
    reader_may_leave,
    redacted,
    steady_output,
)

if TYPE_CHECKING:
    from reports.contract import Publication
    from reports.read import Study
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
    collect_rarely()
    steady_output()
    with reader_may_leave():
        app()


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
    from reports.read import default_tracking_uri, load_records, study_names
    from reports.render import overview_files, write_files
    from reports.report import make_report

    uri = tracking_uri or default_tracking_uri()
    damaged: list[str] = []

    def made() -> Iterator["Report | str"]:
        """A report of each study, or a line about why there is none."""
        for name in dict.fromkeys(names or study_names(uri)):
            try:
                yield make_report(load_records(name, uri))
            except EmptyStudyError as error:
                yield str(error)
            except ReportError as error:
                if names:
                    raise
                damaged.append(name)
                yield f"{name}: {error}"

    files, lines, left_out = overview_files(made())
    many = len(files) - 1
    if not many:
        kind = ReportError if damaged else EmptyStudyError
        raise kind("; ".join(left_out) or f"{redacted(uri)}: no study here")
    write_files(files, out)
    typer.echo("\n".join(map(printable, lines)))
    typer.echo(f"\npage: {out / 'index.html'} ({many} {'study' if many == 1 else 'studies'})")


class Prepared(NamedTuple):
    """A report that is made, and not shown yet.

    publication: what the study's own run in MLflow shows of it.
    show: prints the tables and writes the report to a folder; one that has this report already is
        left as it is. It returns the files written.
    study: as it was read.
    """

    publication: "Publication"
    show: Callable[[Path], list[Path]]
    study: "Study"


def prepare(study_name: str, tracking_uri: str | None = None) -> Prepared:
    """Make a study's report now, and show it later.

    Args:
        study_name: of its MLflow experiment.
        tracking_uri: None: MLFLOW_TRACKING_URI, else ./mlflow.db.

    Raises:
        ReportError: unreadable store or unknown study (one line).
        EmptyStudyError: a ReportError; no run of the study has ended yet.
    """
    from reports.read import load_records
    from reports.render import make_publication
    from reports.report import make_report

    made = make_report(load_records(study_name, tracking_uri))
    publication = make_publication(made)
    return Prepared(publication, lambda out: _show(made, out, publication), made.study)


def _show(
    made: "Report",
    out: Path | None,
    publication: "Publication | None" = None,
    *,
    figures: bool = False,
    notes: bool = False,
    width: int | None = None,
) -> list[Path]:
    """Write a report's files to a folder and print its tables; the files written.

    Args:
        made: the report.
        out: None: ./NAME-report.
        publication: of the report, whose files these are. A folder that has them, by its page's
            stamp, is left as it is.
        figures: whether every chart of the page becomes files, not those of factors alone.
        notes: whether what is printed says what the columns are.
        width: characters of what is printed; None: as wide as the terminal, 160 in a file.
    """
    from reports.render import file_name, is_page_of, print_report, report_files, write_files

    folder = out or Path.cwd() / f"{file_name(made.study.name)}-report"
    if publication and is_page_of(folder / publication.page, publication.stamp):
        written = []
        told = "as it was"
    else:
        files = publication.files() if publication else report_files(made, every_figure=figures)
        written = write_files(files, folder)
        told = f"{len(written)} files"
    print_report(made, f"report: {folder} ({told})", legend=notes, width=width)
    return written


def changes_from_now(study_name: str, tracking_uri: str) -> Callable[[Prepared], list[str]]:
    """What says, after a run, which rows came, moved and left since this call.

    Args:
        study_name: of its MLflow experiment.
        tracking_uri: of the store.

    Returns:
        A function of the report that is made after the run. It gives lines, none where no row has
        changed, or where nothing of the study can be reported now.
    """
    from reports.read import load_records
    from reports.tables import change_lines

    try:
        before = load_records(study_name, tracking_uri)
    except ReportError:
        return lambda after: []
    return lambda after: change_lines(before, after.study)


@app.command(cls=Command)
def report(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="The study, or several.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="One page over all studies of the store.")
    ] = False,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow store; default: $MLFLOW_TRACKING_URI, else ./mlflow.db."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report; default: ./NAME-report, of several ./studies-report."
        ),
    ] = None,
    form: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"Print only this ({', '.join(Format)}; repeatable); files only with --out. csv "
            "is one CSV of all tables, told apart by its column table; --out has one a table.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="What differences, p-values and figures are of: a test metric of the study's"
            " protocol, or quality/MEASURE (a wrong one lists them); default: harmonic_mean, or"
            " accuracy.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--export",
            metavar="optuna:URI",
            help="Write the settings as an Optuna study instead, for optuna-dashboard; e.g. "
            "optuna:sqlite:///x.db.",
        ),
    ] = None,
    figures: Annotated[
        bool,
        typer.Option("--figures", help="Every chart of the page as PNG, SVG and PDF, too."),
    ] = False,
    notes: Annotated[
        bool, typer.Option("--notes", help="Print what the columns are, too.")
    ] = False,
    width: Annotated[
        int | None,
        typer.Option(
            min=40,
            metavar="N",
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
    several = every or len(asked) > 1
    if (every and asked) or not (every or asked):
        raise typer.BadParameter("give the name of a study, names of several, or --all alone")
    if several and any((form, target, figures, metric, published, notes, width)):
        raise typer.BadParameter("of several studies, only --tracking-uri and --out can be given")
    if target is not None and any((form, out, figures, metric, published, notes, width)):
        raise typer.BadParameter("beside --export, only --tracking-uri can be given")
    try:
        if several:
            render_several(asked, tracking_uri, out or Path.cwd() / "studies-report")
            return
        from reports.read import load_records
        from reports.report import make_report

        study = load_records(asked[0], tracking_uri)
        if target is not None:
            from reports.export import export

            typer.echo(export(study, target))
            return
        made = make_report(study, metric, published=published)
        if form:
            from reports.render import FILE_WIDTH, text_of, write_report

            if out is not None:
                write_report(made, out, every_figure=figures)
            texts = (text_of(one, made, width or FILE_WIDTH) for one in form)
            typer.echo("\n".join(texts), nl=False)
        else:
            _show(made, out, figures=figures, notes=notes, width=width)
    except ReportError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(3 if isinstance(error, EmptyStudyError) else 2) from error
