"""A command of ship-sweep that names a study, or what is done in place of one, and how it ends."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from harness import study
from harness.cli import commands, lists
from harness.cli.main import (
    COMPLETE,
    INCOMPLETE,
    INTERRUPTED,
    USER_MISTAKE,
    Options,
    check_options,
)
from harness.config import load_plugins
from harness.deploy import print_recipe
from harness.errors import RayLost, UserError
from harness.planning import StudyOutcome
from harness.store import StoreAway, StudyLost
from harness.study_files import copy_packaged
from reports import cli as pages
from reports.cli import Prepared
from reports.contract import Publication, ReportError, count, redacted
from ship.architectures import BackboneError
from ship.datasets import DatasetError
from ship.plugins import PluginError


def exit_code(options: Options) -> int:
    """Do what is asked for; what ends it is one line on stderr."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
    try:
        return _done(options)
    except KeyboardInterrupt:
        said, code = "interrupted: the same command goes on from here", INTERRUPTED
    except (StudyLost, StoreAway, RayLost) as error:
        said, code = f"incomplete: {error}", INCOMPLETE
    except (UserError, BackboneError, DatasetError, PluginError) as error:
        said, code = str(error), USER_MISTAKE
    typer.echo(said, err=True)
    return code


def _done(options: Options) -> int:
    """Show, check, plan or run; the exit code."""
    check_options(options)
    if options.list_spaces:
        return lists.print_spaces()
    if options.list_backbones:
        return lists.print_backbones(every=options.every)
    if options.deploy is not None:
        print_recipe(options.deploy)
        return COMPLETE
    if options.copy is not None:
        return commands.say_written(copy_packaged(options.copy))
    if options.rename is not None:
        return commands.rename(*options.rename, options.cache_dir)
    load_plugins(options.plugins or [])
    if options.new:
        return commands.new_study(options.plugins or [], options.data_root)
    if options.list_options:
        return lists.print_options()
    if options.check is not None:
        return commands.run_check(options.check, options.data_root)
    if options.predict is not None and options.pictures is not None:
        return commands.run_predict(options.predict, options.pictures, options.setting or [])
    address = None if options.address == "local" else options.address
    space, overrides = str(options.space), options.overrides or []
    if options.prefetch is not None:
        root, cache, verbose = options.data_root, options.cache_dir, options.verbose
        study.prefetch(space, overrides, root, cache, to=options.prefetch, verbose=verbose)
        return COMPLETE
    wanted = study.typed_study(space, overrides, (), options.data_root)
    both = ("data_root", "cache_dir", "detect", "max_seeds", "path")
    asked: dict[str, Any] = {name: getattr(options, name) for name in both}
    asked["reuse"] = not options.no_reuse
    if options.dry_run:
        return commands.print_dry_run(wanted, address, asked)
    report = FinalReport()
    outcome = study.run_study(
        wanted,
        address=address,
        in_process=options.in_process,
        verbose=options.verbose,
        storage=options.storage,
        accept_changes=options.accept,
        ask=_ask if commands.somebody_is_there() else None,
        before=report.before,
        publish=report.publication,
        **asked,
    )
    return finish(outcome, report)


def _ask(question: str) -> bool:
    """A person's answer; no answer is no."""
    try:
        return typer.confirm(question, default=False)
    except typer.Abort:
        return False


class FinalReport:
    """The report of a run: made once, while no other driver has the study, and printed at the end.

    It also remembers the study's table as it stood before the run.
    """

    _made: Prepared | None = None
    _changes: Callable[[Prepared], list[str]] | None = None

    def before(self, name: str, tracking_uri: str) -> None:
        """Read the table, once; for run_study, which calls this where there is something to run.

        A command that runs a study in stages says what has changed since its first one.
        """
        self._made = None  # that of an earlier stage is out of date from now on
        if self._changes is None:
            self._changes = pages.changes_from_now(name, tracking_uri)

    def publication(self, outcome: StudyOutcome) -> Publication:
        """What the study's run in MLflow is to show.

        Raises:
            ReportError: there is no report; print() tries once more, and says why.
        """
        self._made = pages.prepare(outcome.experiment, outcome.tracking_uri)
        return self._made.publication

    def print(self, outcome: StudyOutcome) -> int:
        """Print and write the report; one that cannot be written does not undo the study."""
        try:
            made = self._made or pages.prepare(outcome.experiment, outcome.tracking_uri)
            made.show(Path(f"{outcome.experiment}-report"))
            for line in self._changes(made) if self._changes else ():
                typer.echo(line)
        except ReportError as error:
            typer.echo(str(error), err=True)
            return USER_MISTAKE
        return COMPLETE


def finish(outcome: StudyOutcome, report: FinalReport) -> int:
    """Print the report and how to see the runs; the exit code of a study that has run."""
    code = report.print(outcome) if outcome.done else COMPLETE
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
    way_on = "the same command goes on from here"
    if outcome.final:
        way_on = "none is tried again, as a loss that is not finite is not so by chance"
    lacks = f"{missing} {'is' if missing == 1 else 'are'} missing"
    typer.echo(f"incomplete: {count(failed, 'setting')} failed, {lacks}; {way_on}", err=True)
    return INCOMPLETE
