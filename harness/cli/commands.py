"""What ship-sweep does in place of a run, such as --dry-run and --check."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

import harness.study
from harness.cli.new_study import write_new
from harness.config import StudyConfig
from harness.errors import ClusterError, Fault, UserError
from harness.planning import Plan
from harness.resources import idle_gpus_here, preflight
from harness.study_files import write_for_user
from harness.wording import duration, nearest
from reports.command import INTERRUPTED
from reports.contract import ReportError, printable, printable_lines
from ship.configs import FINETUNERS, GENERATORS
from ship.datasets import DATASETS, PREFIX

BROKEN = 1  # an exit code
_STYLES = {"done": "green", "to run": "cyan", "pruned": "dim", "failed": "red"}


def print_dry_run(study: StudyConfig, address: str | None, asked: Mapping[str, Any]) -> None:
    """Print what a run would do, and on stderr what it would be refused for.

    Args:
        study: the study.
        address: of a running Ray cluster; None: this machine.
        asked: what else plan_study is called with.
    """

    def say(line: str) -> None:
        typer.echo(line, err=True)

    plan = harness.study.plan_study(study, say=say, **asked)
    _print_plan(study.name, plan, here=address is None)
    if plan.finished:
        return
    try:
        preflight(address, study.resources)
    except ClusterError as error:  # the plan may be made elsewhere than the run
        say(f"warning: a run would be refused: {error}")
    else:
        if address is None and (idle := idle_gpus_here(study.resources, study.concurrency)):
            say(f"warning: {idle}")


def _print_plan(name: str, plan: Plan, *, here: bool) -> None:
    """What is done and what would run, setting by setting, and how long that would take.

    Args:
        here: whether it would run on this machine.
    """
    left = plan.estimate
    time = Column("time" if left else "", justify="right", no_wrap=True)
    columns = ("setting", Column("state", no_wrap=True), "seeds to run", time)
    times = {key: duration(seconds) for key, seconds in left.seconds.items()} if left else {}
    table = Table(*columns, box=None, header_style="bold", title=f"study {name}")
    table.title_justify = "left"
    for row in plan.rows:
        state = f"[{_STYLES[row.state]}]{row.state}[/]"
        seeds = ", ".join(map(str, row.seeds))
        table.add_row(escape(row.label), state, seeds, times.get(row.key, ""))
    lines = []
    if plan.proposals:
        lines.append(f"{plan.proposals} more settings to be proposed by the sampler")
    if left is not None:
        many = f"{left.at_once} at once, without features that are not cached"
        wall = f", about {duration(left.wall)} on this machine ({many})" if here else ""
        compute = f"estimated compute time left: about {duration(left.compute)}"
        lines.append(f"{compute}{wall}; from {left.source}")
    console = Console(highlight=False)
    console.print(table)
    for line in (*lines, *plan.notes):
        console.print(printable_lines(line), markup=False, soft_wrap=True)


def run_check(name: str, data_root: Path | None) -> None:
    """Check whatever has that name, on the packaged backbone, and say what holds and what fails.

    Args:
        name: as a YAML says it; of a built-in or a plugin.
        data_root: where datasets lie.

    Raises:
        UserError: nothing has that name.
        typer.Exit: something fails.
    """
    from ship.testing import check_dataset, check_finetuner, check_generator

    folder = name.startswith(PREFIX)
    if not folder and all(name not in table for table in (GENERATORS, FINETUNERS, DATASETS)):
        known = [*GENERATORS.names(), *FINETUNERS.names(), *DATASETS.names()]
        must = "must name a generator, a fine-tuner or a dataset"
        fault = Fault("--check", must, name, near=nearest(name, known)).text
        hint = "ship-sweep --list-options lists them, --plugin FILE adds yours"
        raise UserError(f"{fault}; {hint}")
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
    if fails:
        raise typer.Exit(BROKEN)


def run_predict(study: str, pictures: Path, setting: Sequence[str]) -> None:
    """Name pictures by a study's trained models, in a CSV file, and say what came of it.

    Args:
        study, pictures, setting: see harness.predictions.predict.

    Raises:
        UserError: there is nothing to name, or nothing to name it by.
    """
    from harness.predictions import predict
    from ship.trial import TrainedError

    try:
        named = predict(study, pictures, setting)
    except (ReportError, TrainedError) as error:
        raise UserError(str(error)) from error
    path = Path(f"{study}-predictions.csv")
    write_for_user(path, named.write_csv().encode())
    (seeds,) = named["seeds"].unique()
    agree = (named["seeds_agreeing"] == named["seeds"]).sum()
    told = f"{len(named)} pictures of {named['class'].n_unique()} classes"
    typer.echo(f"{told}; the models of all {seeds} seeds agree on {agree}: {path}")


def say_written(path: Path, options: Sequence[tuple[str, str]] = ()) -> None:
    """Say that a study's YAML was written, and how to look at its plan.

    Args:
        path: of the YAML.
        options: name and value of those that the study needs.
    """
    named = "".join(f" {option} {shlex.quote(value)}" for option, value in options)
    typer.echo(f"{path} is written. What it would run, and for how long:")
    typer.echo(f"  ship-sweep --space {path}{named} --dry-run")


def rename(old: str, new: str, cache_dir: Path | None) -> None:
    """Rename a study, and say what its YAML has to say then.

    Raises:
        UserError: it cannot be renamed so.
    """
    harness.study.rename_study(old, new, cache_dir=cache_dir, say=typer.echo)
    typer.echo(f"study {old} is called {new} now: a YAML finds its runs by the line `name: {new}`")


def new_study(plugins: Sequence[str], data_root: Path | None) -> None:
    """Ask, and write a study's YAML.

    Raises:
        UserError: nobody can be asked, or it cannot be written.
        typer.Exit: who is asked has had enough.
    """
    if not somebody_is_there():
        raise UserError("--new asks questions, which needs a terminal")
    try:
        path = write_new(data_root)
    except (typer.Abort, KeyboardInterrupt) as error:  # between questions, or within one
        typer.echo("\ninterrupted: nothing was written", err=True)
        raise typer.Exit(INTERRUPTED) from error
    given = [("--plugin", file) for file in plugins]
    if data_root is not None:
        given.append(("--data-root", str(data_root)))
    say_written(path, given)


def somebody_is_there() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def confirmed(question: str) -> bool:
    """A person's answer; no answer is no."""
    try:
        return typer.confirm(question, default=False)
    except typer.Abort:
        return False
