"""Run a study, print its dry run, or predict with its models, and print the outcome."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

import harness.store
import harness.study
from harness.cli.exits import RESUME_ADVICE, exit_with
from harness.command import INCOMPLETE, INTERRUPTED, USER_MISTAKE
from harness.config import StudyConfig
from harness.errors import ClusterError, ConfigError, Fault, UserError, find_ray_address_fault
from harness.planning import Plan, StudyOutcome, format_state, format_summary_lines
from harness.resources import check_resources, describe_idle_gpus_here
from harness.store import STORE_TIMEOUT, Publication
from harness.study_files import list_packaged_names, write_for_user
from harness.wording import count, escape_controls_in_lines, format_duration, mask_secrets
from reports import cli as report_cli
from reports.errors import ReportError

_STYLES = {"done": "green", "to run": "cyan", "pruned": "dim", "failed": "red"}


def require_space(
    space: str | None, address: str | None = None, *, in_process: bool = False
) -> str:
    """Check the options that can be checked before the study is read, and return --space.

    Args:
        space: Value of --space.
        address: Address of a Ray cluster. None for this machine.
        in_process: Whether trials run in this process.

    Raises:
        ConfigError: --space is missing, or other options are invalid. The message has one line per
            fault.
    """
    lines = []
    if space is None:
        rule = "is required: a YAML file or the name of a packaged study"
        lines.append(Fault("--space", rule, choices=list_packaged_names()).text)
    if address is not None and (fault := find_ray_address_fault(address)):
        lines.append(fault)
    if address is not None and in_process:
        lines.append("--in-process cannot be combined with --address")
    if space is None or lines:
        raise ConfigError(lines)
    return space


def run_and_report(study: StudyConfig, *, store_timeout: float | None, **options: Any) -> None:
    """Run a study, and print its report.

    Args:
        study: The study.
        store_timeout: Seconds to wait for the store. Defaults to STORE_TIMEOUT.
        **options: Further arguments of `run_study`.

    Raises:
        typer.Exit: The exit code is not 0, see `print_outcome`.
    """
    report = FinalReport()
    timeout = STORE_TIMEOUT if store_timeout is None else store_timeout
    outcome = harness.study.run_study(
        study, store_timeout=timeout, publish=report.publication, **options
    )
    print_outcome(outcome, report)


def print_dry_run(study: StudyConfig, address: str | None, arguments: Mapping[str, Any]) -> None:
    """Print what a run would do. Warn on stderr if it would be refused here or leave GPUs idle.

    Args:
        study: The study.
        address: Address of a running Ray cluster. None for this machine.
        arguments: Further arguments of `plan_study`.
    """

    def warn(line: str) -> None:
        typer.echo(f"warning: {line}", err=True)

    from harness.cli.detectable_difference import format_detectable  # loads polars

    plan = harness.study.plan_study(study, **arguments)
    notes = [*plan.notes, *format_detectable(study, plan.history.all_runs)]
    _print_plan(study.name, plan, notes, is_local=address is None)
    if plan.finished:
        return
    try:
        check_resources(address, study.resources)
    except ClusterError as error:  # only a warning: the study may be run on another machine
        warn(f"a run would be refused: {error}")
    else:
        if address is None and (
            idle_line := describe_idle_gpus_here(study.resources, study.max_concurrent_trials)
        ):
            warn(idle_line)


def _print_plan(name: str, plan: Plan, notes: Sequence[str], *, is_local: bool) -> None:
    """Print the state of each configuration, what would run, and how long it would take.

    Args:
        name: Name of the study.
        plan: Plan of the study.
        notes: Lines below the table.
        is_local: Whether the study would run on this machine.
    """
    estimate = plan.estimate
    time = Column("time" if estimate else "", justify="right", no_wrap=True)
    columns = ("configuration", Column("state", no_wrap=True), "seeds to run", time)
    seconds_by_key = estimate.seconds if estimate else {}
    times = {key: format_duration(seconds) for key, seconds in seconds_by_key.items()}
    table = Table(*columns, box=None, header_style="bold", title=f"study {name}")
    table.title_justify = "left"
    for row in plan.rows:
        state = f"[{_STYLES[row.state]}]{format_state(row)}[/]"
        seeds = ", ".join(map(str, row.seeds))
        table.add_row(escape(row.label), state, seeds, times.get(row.configuration.key, ""))
    console = Console(highlight=False)
    console.print(table)
    for line in (*format_summary_lines(plan, is_local=is_local), *notes):
        console.print(escape_controls_in_lines(line), markup=False, soft_wrap=True)


def run_predict(study: str, images: Path, config: Sequence[str]) -> None:
    """Classify images with a study's trained models, write a CSV file, and print a summary.

    Args:
        study: Name of the study.
        images: An image file or a folder.
        config: Levels of factors as KEY=VALUE, see harness.cli.predictions.predict.

    Raises:
        UserError: The images or the models cannot be used; or some images could not be decoded. In
            the second case the file contains the predictions for the other images.
    """
    from harness.cli.predictions import predict
    from ship.trial import TrainedError

    try:
        predictions = predict(study, images, config)
    except (ReportError, TrainedError) as error:
        raise UserError(str(error)) from error
    path = Path(f"{study}-predictions.csv")
    write_for_user(path, predictions.write_csv().encode())
    bad_images = predictions.filter(predictions["error"].is_not_null())
    decoded = predictions.filter(predictions["error"].is_null())
    (seeds,) = decoded["seeds"].unique()
    n_agreed = int((decoded["seeds_agreeing"] == decoded["seeds"]).sum())
    classes = decoded["class"].n_unique()
    class_text = f"{classes} classes" if classes > 1 else "1 class"
    agreed_text = f"; the models of all {seeds} seeds agree on {count(n_agreed, 'image')}"
    agreement = agreed_text if seeds > 1 else ""
    typer.echo(f"{path}: {count(len(decoded), 'image')} predicted as {class_text}{agreement}")
    if len(bad_images):
        lines = [f"not predicted: {line}" for line in bad_images["error"]]
        raise UserError("\n".join(lines))


class FinalReport:
    """Report of a run. It is prepared while the study is locked, and printed afterwards."""

    _prepared: report_cli.PreparedReport | None = None

    def publication(self, outcome: StudyOutcome) -> Publication:
        """Prepare the report, and return the parts that the study's own MLflow run shows.

        Raises:
            ReportError: The report cannot be prepared. `show` tries again.
        """
        logged = outcome.history.all_runs
        self._prepared = report_cli.prepare_report(outcome.experiment, outcome.tracking_uri, logged)
        return self._prepared.publication

    def show(self, outcome: StudyOutcome) -> None:
        """Print the report and write its files.

        Raises:
            ReportError: The report cannot be prepared or written.
        """
        report = self._prepared or report_cli.prepare_report(
            outcome.experiment, outcome.tracking_uri
        )
        report.show(Path(f"{outcome.experiment}-report"))


def print_outcome(outcome: StudyOutcome, report: FinalReport) -> None:
    """Print the report of a study that has run, how to view its runs, and what is missing.

    If the report cannot be written to MLflow, an error is printed. This does not change the exit
    code.

    Raises:
        typer.Exit: The exit code is 130 after an interrupt, 3 if the study is incomplete, and 2 if
            it is complete but its report's files cannot be written.
    """
    report_fault = ""
    if outcome.reportable:
        try:
            report.show(outcome)
        except ReportError as error:
            report_fault = str(error)
    uri = mask_secrets(outcome.tracking_uri)
    command = f"mlflow ui --backend-store-uri {shlex.quote(uri)} --port 5000"
    if uri.startswith(("http://", "https://")):
        command = uri
    typer.echo(f"all runs (experiment {outcome.experiment}): {command}")
    for fault in filter(None, (report_fault, outcome.unpublished)):
        typer.echo(fault, err=True)
    if outcome.interrupted:
        exit_with(INTERRUPTED, f"interrupted: {RESUME_ADVICE}")
    failed, missing = outcome.failed, outcome.missing
    if failed or missing:
        advice = RESUME_ADVICE
        if outcome.final:
            advice = "a number was not finite. Use --retry-non-finite to rerun these seeds"
        reasons = []
        if failed:
            seeds = count(outcome.failed_seeds, "seed")
            reasons.append(f"{seeds} of {count(failed, 'configuration')} failed")
        if missing:
            verb = "is" if missing == 1 else "are"
            reasons.append(f"{count(missing, 'configuration')} {verb} missing")
        exit_with(INCOMPLETE, f"incomplete: {', '.join(reasons)}; {advice}")
    if report_fault:
        raise typer.Exit(USER_MISTAKE)
