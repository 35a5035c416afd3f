"""The command `ship-report NAME`: the answer, tables and figures of a study, read from MLflow."""

import enum
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.command import INCOMPLETE, USER_MISTAKE, Command, refuse, start
from harness.store import Publication
from harness.wording import escape_controls, mask_secrets
from reports.errors import EmptyStudyError, ReportError, ReportFaults

if TYPE_CHECKING:
    from harness.store import Run
    from reports.report import PairedReport, Report

_EPILOG = (
    "Exit codes:\n\n"
    "0: the report was printed or written\n\n"
    "2: the command or the file of --external has a mistake, the store cannot be read, or there "
    "is no such study or metric\n\n"
    "3: no trial of the study has ended yet\n\n"
    "130: interrupted\n\n"
    "141: the pipe that reads the output was closed"
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class ReportCommand(Command):
    """The command ship-report, which needs names or --all."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage line: with either names or --all."""
        return ["(NAME... | --all) [OPTIONS]"]


class Format(enum.StrEnum):
    """Output format of --format."""

    terminal = "terminal"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"


def main() -> None:
    """Run the command line; this is the script's entry point."""
    start(app)


@dataclass(frozen=True)
class Output:
    """Options for the output of a report.

    Attributes:
        formats: Formats to print. If empty, the terminal format is printed.
        out: Folder of the files. If None, files are written to the default folder, but only if
            `formats` is empty.
        notes: Whether to print the notes that explain the columns.
        width: Width of printed tables in characters. None for the terminal's width.
    """

    formats: Sequence[Format]
    out: Path | None
    notes: bool
    width: int | None

    def show(
        self,
        report: "Report | PairedReport",
        default_folder: str,
        write: Callable[[Path], list[Path]],
    ) -> None:
        """Print a report and write its files; see `formats` and `out` for what and where.

        Args:
            report: The report.
            default_folder: Name of the default folder, which is in the working directory.
            write: Function that writes the files to a folder and returns their paths.
        """
        from reports.render import FILE_WIDTH, format_report, print_report

        if self.formats:
            if self.out is not None:
                write(self.out)
            width = self.width or FILE_WIDTH
            texts = (format_report(format_, report, width) for format_ in self.formats)
            typer.echo("\n".join(texts), nl=False)
            return
        folder = self.out or Path.cwd() / default_folder
        last_line = f"report: {folder} ({len(write(folder))} files)"
        print_report(report, last_line, legend=self.notes, width=self.width)


def render_paired(
    names: Sequence[str], tracking_uri: str | None, metric: str | None, output: Output
) -> None:
    """Compare two studies seed by seed, print the result, and write its files.

    Args:
        names: Names of the studies A and B.
        tracking_uri: MLflow tracking URI. Defaults to MLFLOW_TRACKING_URI, else ./mlflow.db.
        metric: Metric of the differences. Defaults to the main metric of A's protocol.
        output: Options for the output.

    Raises:
        ReportError: If the studies cannot be read or compared. The message is one line with all
            reasons.
        EmptyStudyError: If no run of a study has ended yet. It is a ReportError.
    """
    from reports.render import make_paired_files, make_paired_name, write_files
    from reports.report import make_paired_report
    from reports.study import load_records

    study_a, study_b = (load_records(name, tracking_uri) for name in names)
    paired = make_paired_report(study_a, study_b, metric)
    folder = f"{make_paired_name(*names)}-report"
    output.show(paired, folder, lambda out: write_files(make_paired_files(paired), out))


def render_several(names: list[str], tracking_uri: str | None, out: Path) -> None:
    """Write an overview page of several studies and a page per study, and print the overview.

    Args:
        names: Names of the studies. If empty, all studies of the store with a run that has ended.
        tracking_uri: MLflow tracking URI. Defaults to MLFLOW_TRACKING_URI, else ./mlflow.db.
        out: Folder of the pages.

    Raises:
        ReportError: If the store cannot be read, a named study is unknown, or the folder cannot be
            written. The message is one line.
        EmptyStudyError: If no study has an ended run. It is a ReportError.
    """
    from harness.store import get_default_tracking_uri
    from reports.render import make_overview_files, write_files
    from reports.report import make_reports

    uri = tracking_uri or get_default_tracking_uri()
    files, lines, left_out = make_overview_files(make_reports(uri, names))
    n_studies = len(files) - 1
    if not n_studies:
        is_empty = all(isinstance(error, EmptyStudyError) for error in left_out)
        error_class = EmptyStudyError if is_empty else ReportError
        reasons = "; ".join(map(str, left_out))
        raise error_class(reasons or f"{mask_secrets(uri)}: the store has no study")
    write_files(files, out)
    typer.echo("\n".join(map(escape_controls, lines)))
    noun = "study" if n_studies == 1 else "studies"
    typer.echo(f"\npage: {out / 'index.html'} ({n_studies} {noun})")


@dataclass(frozen=True)
class PreparedReport:
    """A report that has been computed, but not shown yet.

    Attributes:
        report: The report.
        publication: The parts of the report that the study's own MLflow run shows.
    """

    report: "Report"
    publication: Publication

    def show(self, out: Path) -> None:
        """Print the report and write its files to a folder.

        If the page in the folder already is the page of this report, no files are written.
        """
        from reports.render import is_page_of, print_report, write_files

        status = "unchanged"
        if not is_page_of(out / self.publication.page, self.publication.stamp):
            status = f"{len(write_files(self.publication.files(), out))} files"
        print_report(self.report, f"report: {out} ({status})")


def prepare_report(
    study_name: str, tracking_uri: str | None = None, recent_runs: Sequence["Run"] = ()
) -> PreparedReport:
    """Compute a study's report, to be shown later.

    Args:
        study_name: Name of the study's MLflow experiment.
        tracking_uri: MLflow tracking URI. Defaults to MLFLOW_TRACKING_URI, else ./mlflow.db.
        recent_runs: Runs of the experiment, oldest first, if the caller has just read them (see
            load_records).

    Raises:
        ReportError: If the store cannot be read, or if the study is unknown. The message is one
            line.
        EmptyStudyError: If no run of the study has ended yet. It is a ReportError.
    """
    from reports.render import make_publication
    from reports.report import make_report
    from reports.study import load_records

    report = make_report(load_records(study_name, tracking_uri, recent_runs))
    return PreparedReport(report, make_publication(report))


@app.command("ship-report", cls=ReportCommand, epilog=_EPILOG)
def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Names of one or more studies. Required, unless --all is given."
        ),
    ] = None,
    *,
    all_: Annotated[
        bool, typer.Option("--all", help="Report all studies of the store, as with several names.")
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
            help="Folder of the report. Defaults to ./NAME-report, to ./studies-report for "
            "several studies, and to ./A-B-report with --paired.",
        ),
    ] = None,
    format_: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Print the report in this format: terminal, markdown, latex or csv. latex and "
            "csv contain only the tables; csv is one CSV of all tables, with a `table` column. "
            "With --format, no files are written unless --out is given. Repeatable.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="METRIC",
            help="Metric of the differences, p-values and figures: a test metric of the study's "
            "protocol, or quality/MEASURE for a measure of the synthetic features. Defaults to "
            "harmonic_mean, or to accuracy if the protocol has no harmonic mean.",
        ),
    ] = None,
    figures: Annotated[
        bool,
        typer.Option(
            "--figures",
            help="Write all charts of the HTML report as PNG, SVG and PDF. By default, only the "
            "charts of factors are written.",
        ),
    ] = False,
    notes: Annotated[
        bool, typer.Option("--notes", help="Also print the notes that explain the columns.")
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
    paired: Annotated[
        bool,
        typer.Option(
            "--paired",
            help="Compare two studies A and B: for each configuration that both have, the "
            "difference B - A, paired by seed.",
        ),
    ] = False,
    external: Annotated[
        Path | None,
        typer.Option(
            "--external",
            metavar="FILE.csv",
            help="Add results from outside the store. Columns of the file: configuration, seed (a "
            "whole number of at most 9 digits), a column per metric, in percent, and dataset, if "
            "this is a factor of the study.",
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
    """Print a study's report and write its files (Markdown, LaTeX, HTML, PNG, SVG, PDF, CSV).

    The files are written to the folder NAME-report in the working directory.

    With several names, or with --all, print and write an overview of the studies that links to a
    page per study. With --paired, compare two studies instead.
    """
    # MLflow retries for minutes by default; a store that is down should be reported in seconds.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    study_names = names or []
    has_several = all_ or len(study_names) > 1
    output = Output(format_ or (), out, notes, width)
    if paired and (all_ or len(study_names) != 2 or len({*study_names}) != 2):
        value = "--all" if all_ else " ".join(study_names) or "none"
        refuse([f"--paired needs the names of two different studies, got {value}"])
    if paired and (figures or published or external):
        refuse(["--paired cannot be combined with --figures, --published or --external"])
    has_single_study_options = any((format_, figures, metric, published, notes, width, external))
    if all_ == bool(study_names):
        refuse(["give either the names of one or more studies, or --all"])
    if has_several and has_single_study_options and not paired:
        refuse(["a report of several studies accepts only --tracking-uri and --out"])
    try:
        if paired:
            render_paired(study_names, tracking_uri, metric, output)
            return
        if has_several:
            render_several(study_names, tracking_uri, out or Path.cwd() / "studies-report")
            return
        from reports.render import make_file_name, write_report
        from reports.report import make_report
        from reports.study import load_records
        from reports.tables import add_external_results

        study = load_records(study_names[0], tracking_uri)
        if external is not None:
            study = add_external_results(study, external)
        study_report = make_report(study, metric, published=published)
        output.show(
            study_report,
            f"{make_file_name(study.name)}-report",
            lambda folder: write_report(study_report, folder, every_figure=figures),
        )
    except ReportFaults as error:
        refuse(error.lines)
    except ReportError as error:
        typer.echo(str(error), err=True)
        code = INCOMPLETE if isinstance(error, EmptyStudyError) else USER_MISTAKE
        raise typer.Exit(code) from error
