"""What ship-sweep does beside running a study: --dry-run, --prefetch and --check."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.cli.options import Options
from harness.cli.report import BROKEN, COMPLETE
from harness.errors import ClusterError, UserError
from harness.wording import duration, nearest, printable, printable_lines

if TYPE_CHECKING:
    from harness.config import StudyConfig
    from harness.planning import Plan

_STYLES = {"done": "green", "to run": "cyan", "changed": "yellow", "pruned": "dim", "failed": "red"}


def print_dry_run(study: "StudyConfig", address: str | None, asked: Mapping[str, Any]) -> int:
    """Print what a run would do, and on stderr what it would be refused for; the exit code.

    Args:
        study: the study.
        address: of a running Ray cluster; None: this machine.
        asked: what else plan_study is called with.
    """
    from harness.resources import idle_gpus_here, preflight
    from harness.study import plan_study

    def say(line: str) -> None:
        typer.echo(line, err=True)

    plan = plan_study(study, say=say, **asked)
    print_plan(study.name, plan, here=address is None)
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


def print_plan(name: str, plan: "Plan", *, here: bool = True) -> None:
    """What is done and what would run, setting by setting, and how long that would take.

    Args:
        here: whether it would run on this machine.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

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


def run_prefetch(options: Options) -> int:
    """Fetch the weights and the pictures of a study, then extract its features; the exit code.

    Weights come first, as pictures may have to be put in place by hand: then the study is refused,
    with a line for each.

    Raises:
        UserError, ValueError: a mistake in the YAML, a dataset or a backbone that cannot be had.
    """
    from harness.config import load_study
    from harness.data.download import fetch_missing
    from harness.study import fetch_features, fetch_weights, named_datasets

    space, overrides, root = str(options.space), options.overrides or [], options.data_root
    study = load_study(space, overrides, root, there=False)
    fetch_weights(study, typer.echo)
    if root is not None:
        fetch_missing(named_datasets(study), root, typer.echo)
    study = load_study(space, overrides, root)
    typer.echo(f"pictures of {', '.join(named_datasets(study))}: they are here")
    if options.prefetch == "features":
        fetch_features(study, root, options.cache_dir, verbose=options.verbose)
    return COMPLETE


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
