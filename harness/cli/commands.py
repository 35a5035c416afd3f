"""The end of a run of ship-sweep, and what it does in place of one: --dry-run and --check."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from reports.contract import ReportError, redacted

if TYPE_CHECKING:
    from harness.config import StudyConfig
    from harness.planning import Plan, StudyOutcome
    from reports.cli import Prepared
    from reports.contract import Publication

COMPLETE, BROKEN, USER_MISTAKE, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130
_STYLES = {"done": "green", "to run": "cyan", "changed": "yellow", "pruned": "dim", "failed": "red"}


def print_dry_run(study: "StudyConfig", address: str | None, asked: Mapping[str, Any]) -> int:
    """Print what a run would do, and on stderr what it would be refused for; the exit code.

    Args:
        study: the study.
        address: of a running Ray cluster; None: this machine.
        asked: what else plan_study is called with.
    """
    from harness.errors import ClusterError
    from harness.resources import idle_gpus_here, preflight
    from harness.study import plan_study

    def say(line: str) -> None:
        typer.echo(line, err=True)

    plan = plan_study(study, say=say, **asked)
    _print_plan(study.name, plan, here=address is None)
    if plan.finished:
        return COMPLETE
    idle = None if address else idle_gpus_here(study.resources, study.concurrency)
    if idle is not None:
        say(f"warning: {idle}")
    try:
        preflight(address, study.resources)
    except ClusterError as error:  # the plan may be made elsewhere than the run
        for fault in str(error).splitlines():
            say(f"warning: a run would be refused: {fault}")
    return COMPLETE


def _print_plan(name: str, plan: "Plan", *, here: bool) -> None:
    """What is done and what would run, setting by setting, and how long that would take.

    Args:
        here: whether it would run on this machine.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from harness.wording import duration, printable_lines

    left = plan.estimate
    columns: list[Column | str] = ["setting", Column("state", no_wrap=True), "seeds to run"]
    if left:
        columns.append(Column("time", justify="right", no_wrap=True))
    times = {key: duration(seconds) for key, seconds in left.seconds.items()} if left else {}
    table = Table(*columns, box=None, header_style="bold", title=f"study {name}")
    table.title_justify = "left"
    for row in plan.rows:
        state = f"[{_STYLES.get(row.state, '')}]{row.state}[/]"
        cells = (escape(row.label), state, ", ".join(map(str, row.seeds)), times.get(row.key, ""))
        table.add_row(*cells[: len(columns)])
    lines = []
    if plan.proposals:
        lines.append(f"{plan.proposals} more settings to be proposed by the sampler")
    if left is not None:
        wall = f", about {duration(left.wall)} on this machine ({left.parts})" if here else ""
        compute = f"estimated compute time left: about {duration(left.compute)}"
        lines.append(f"{compute}{wall}; from {left.source}")
    console = Console(highlight=False)
    console.print(table)
    for line in (*lines, *plan.notes):
        console.print(printable_lines(line), markup=False, soft_wrap=True)


def run_check(name: str, data_root: Path | None) -> int:
    """Check whatever has that name, on the packaged backbone, and say what holds and what fails.

    Args:
        name: as a YAML says it; of a built-in or a plugin.
        data_root: where datasets lie.

    Returns:
        The exit code: 0 where everything holds.

    Raises:
        UserError: nothing has that name.
    """
    from harness.errors import UserError
    from harness.wording import nearest, printable
    from ship.configs import FINETUNERS, GENERATORS
    from ship.datasets import DATASETS
    from ship.testing import check_dataset, check_finetuner, check_generator

    folder = name.startswith("image_folder:")
    if not folder and all(name not in table for table in (GENERATORS, FINETUNERS, DATASETS)):
        known = [*GENERATORS.names(), *FINETUNERS.names(), *DATASETS.names()]
        near = nearest(name, known)
        hint = f" (did you mean {near}?)" if near else ""
        raise UserError(
            f"--check must name a generator, a fine-tuner or a dataset, got {name!r}{hint}; "
            f"ship-sweep --list-options lists them, --plugin FILE adds yours"
        )
    generator, fails = GENERATORS.get(name), 0
    checks = {
        "generator": check_generator(name) if generator and generator.method else (),
        "fine-tuner": check_finetuner(name) if name in FINETUNERS else (),
        "dataset": check_dataset(name, data_root) if folder or name in DATASETS else (),
    }
    for kind, findings in checks.items():
        for line in map(str, findings):
            typer.echo(printable(f"{kind} {name}: {line}"))
            fails += line.startswith("FAILS")
    typer.echo(f"{fails} of its promises fail" if fails else "everything holds")
    return BROKEN if fails else COMPLETE


def run_predict(study: str, pictures: Path, setting: Sequence[str]) -> int:
    """Name pictures by a study's trained models, in a CSV file, and say what came of it.

    Args:
        study, pictures, setting: see harness.predictions.predict.

    Returns:
        The exit code.

    Raises:
        UserError: there is nothing to name, or nothing to name it by.
    """
    from harness.errors import UserError
    from harness.predictions import predict
    from harness.study_files import write_for_user
    from ship.trial import TrainedError

    try:
        named = predict(study, pictures, setting)
    except (ReportError, TrainedError) as error:
        raise UserError(str(error)) from error
    path = Path(f"{study}-predictions.csv")
    write_for_user(path, named.write_csv().encode())
    (seeds,), agree = named["seeds"].unique(), (named["seeds_agreeing"] == named["seeds"]).sum()
    told = f"{len(named)} pictures of {named['class'].n_unique()} classes"
    typer.echo(f"{told}; the models of all {seeds} seeds agree on {agree}: {path}")
    return COMPLETE


def copy_study(name: str) -> int:
    """Write a packaged study's YAML here, and say so; the exit code.

    Raises:
        UserError: there is no such study, or the file cannot be written.
    """
    from harness.study_files import copy_packaged

    return say_written(copy_packaged(name))


def say_written(path: Path, options: Sequence[tuple[str, str]] = ()) -> int:
    """Say that a study's YAML was written, and how to look at its plan; the exit code.

    Args:
        path: of the YAML.
        options: name and value of those that the study needs.
    """
    named = "".join(f" {option} {shlex.quote(value)}" for option, value in options)
    typer.echo(f"{path} is written. What it would run, and for how long:")
    typer.echo(f"  ship-sweep --space {path}{named} --dry-run")
    return COMPLETE


def rename(old: str, new: str, cache_dir: Path | None) -> int:
    """Rename a study, and say what its YAML has to say then; the exit code.

    Raises:
        UserError: it cannot be renamed so.
    """
    from harness.study import rename_study

    rename_study(old, new, cache_dir=cache_dir, say=typer.echo)
    typer.echo(f"study {old} is called {new} now: a YAML finds its runs by the line `name: {new}`")
    typer.echo("writes that wait in other cache folders are not sent under the new name")
    return COMPLETE


class FinalReport:
    """The report of a run: made once, while no other driver has the study, and printed at the end.

    It also remembers the study's table as it stood before the run.
    """

    _made: "Prepared | None" = None
    _changes: "Callable[[Prepared], list[str]] | None" = None

    def before(self, name: str, tracking_uri: str) -> None:
        """Read the table, once; for run_study, which calls this where there is something to run.

        A command that runs a study in stages says what has changed since its first one.
        """
        from reports.cli import changes_from_now

        self._made = None  # that of an earlier stage is out of date from now on
        if self._changes is None:
            self._changes = changes_from_now(name, tracking_uri)

    def publication(self, outcome: "StudyOutcome") -> "Publication":
        """What the study's run in MLflow is to show.

        Raises:
            ReportError: there is no report; print() tries once more, and says why.
        """
        from reports.cli import prepare

        self._made = prepare(outcome.experiment, outcome.tracking_uri)
        return self._made.publication

    def print(self, outcome: "StudyOutcome") -> int:
        """Print and write the report; one that cannot be written does not undo the study."""
        from reports.cli import prepare

        try:
            made = self._made or prepare(outcome.experiment, outcome.tracking_uri)
            made.show(Path(f"{outcome.experiment}-report"))
            for line in self._changes(made) if self._changes else ():
                typer.echo(line)
        except ReportError as error:
            typer.echo(str(error), err=True)
            return USER_MISTAKE
        return COMPLETE


def finish(outcome: "StudyOutcome", report: FinalReport) -> int:
    """Print the report and how to see the runs; the exit code of a study that has run."""
    from harness.wording import count

    code = COMPLETE
    if outcome.interrupted and outcome.done == outcome.arms:  # a table would be dashes
        which = f" but {count(outcome.arms, 'reference arm')}" if outcome.arms else ""
        typer.echo(f"no setting{which} has finished yet, so there is no table")
    elif outcome.done:
        code = report.print(outcome)
    uri = redacted(outcome.tracking_uri)
    command = f"mlflow ui --backend-store-uri {shlex.quote(uri)} --port 5000"
    if uri.startswith(("http://", "https://")):
        command = f"open {uri}"
    typer.echo(f"all runs (experiment {outcome.experiment}): {command}")
    if outcome.unpublished:
        typer.echo(outcome.unpublished, err=True)
    if outcome.interrupted:
        typer.echo("interrupted: the same command goes on from here", err=True)
        return INTERRUPTED
    failed, missing = outcome.failed, outcome.missing
    if not failed and not missing:
        return code
    way_on = "the same command tries again what did not fail by a loss that was not finite"
    if outcome.final:
        way_on = "none is tried again, as a loss that is not finite is not so by chance"
    elif missing:
        way_on = "the same command runs what is missing"
    lacks = f"{missing} {'is' if missing == 1 else 'are'} missing"
    typer.echo(f"incomplete: {count(failed, 'setting')} failed, {lacks}; {way_on}", err=True)
    return INCOMPLETE
