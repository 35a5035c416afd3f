"""`ship-sweep --dry-run`: what a run would do, and what it would be refused for."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli.exit import COMPLETE

if TYPE_CHECKING:
    from harness.config import StudyConfig


def print_dry_run(
    study: "StudyConfig",
    data_root: Path | None,
    address: str | None,
    cache_dir: Path | None,
    line: str = "",
) -> int:
    """Print what a run would do, and on stderr what it would be refused for; the exit code.

    Args:
        study: the study.
        data_root: folder of the data sets, None if the study needs none.
        address: of a running Ray cluster; None: this machine.
        cache_dir: for features and fingerprints; None: the default one.
        line: said behind the plan, "" for none.
    """
    from harness.cli.list_options import print_plan
    from harness.cli.seeds import detectable_lines
    from harness.errors import ClusterError
    from harness.resources import idle_gpus_here, preflight
    from harness.study import plan_study

    def say(line: str) -> None:
        typer.echo(line, err=True)

    plan = plan_study(study, data_root=data_root, cache_dir=cache_dir, say=say)
    print_plan(study.name, plan, here=address is None)
    for told in [*([line] if line else []), *detectable_lines(study)]:
        typer.echo(told)
    idle = None if plan.finished or address else idle_gpus_here(study.resources, study.concurrency)
    if idle is not None:
        say(f"warning: {idle}")
    try:
        if not plan.finished:
            preflight(address, study.resources)
    except ClusterError as error:  # the plan may be made elsewhere than the run
        for fault in str(error).splitlines():
            typer.echo(f"warning: a run would be refused: {fault}", err=True)
    return COMPLETE
