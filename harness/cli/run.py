"""A command of ship-sweep that names a study, or what is done in place of one, and how it ends."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import typer

from harness import study
from harness.cli import commands, lists
from harness.cli.main import Options, check_options
from harness.config import load_plugins
from harness.deploy import print_recipe
from harness.errors import RayLost, UserError
from harness.planning import StudyOutcome
from harness.store import StoreAway, StudyLost
from harness.study_files import copy_packaged
from reports import cli as pages
from reports.command import INTERRUPTED
from reports.contract import Publication, ReportError, count, redacted
from ship.architectures import BackboneError
from ship.datasets import DatasetError
from ship.plugins import PluginError

USER_MISTAKE, INCOMPLETE = 2, 3  # exit codes
_GOES_ON = "the same command goes on from here"


def carry_out(options: Options) -> None:
    """Do what is asked for; what ends it is one line on stderr.

    Raises:
        typer.Exit: with the exit code, where it is not 0.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
    try:
        _carry_out(options)
    except KeyboardInterrupt:
        _end(INTERRUPTED, f"interrupted: {_GOES_ON}")
    except (StudyLost, StoreAway, RayLost) as error:
        _end(INCOMPLETE, f"incomplete: {error}")
    except (UserError, BackboneError, DatasetError, PluginError) as error:
        _end(USER_MISTAKE, str(error))


def _end(code: int, said: str) -> NoReturn:
    typer.echo(said, err=True)
    raise typer.Exit(code)


def _carry_out(options: Options) -> None:
    """Show, check, plan or run."""
    check_options(options)
    plugins, data_root = options.plugin or [], options.data_root
    load_plugins(plugins)
    if options.list_:
        lists.print_spaces()
    elif options.list_options:
        lists.print_options()
    elif options.list_backbones:
        lists.print_backbones(every=options.all_)
    elif options.deploy is not None:
        print_recipe(options.deploy)
    elif options.copy is not None:
        commands.say_written(copy_packaged(options.copy))
    elif options.rename is not None:
        commands.rename(*options.rename, options.cache_dir)
    elif options.new:
        commands.new_study(plugins, data_root)
    elif options.check is not None:
        commands.run_check(options.check, data_root)
    elif options.predict is not None and options.pictures is not None:
        commands.run_predict(options.predict, options.pictures, options.setting or [])
    else:
        _plan_or_run(options)


def _plan_or_run(options: Options) -> None:
    """Fetch what a study needs, show what it would do, or run it and print its report."""
    space, overrides = str(options.space), options.set_ or []
    if options.prefetch is not None:
        root, cache, verbose = options.data_root, options.cache_dir, options.verbose
        study.prefetch(space, overrides, root, cache, to=options.prefetch, verbose=verbose)
        return
    wanted = study.typed_study(space, overrides, (), options.data_root)
    address = None if options.address == "local" else options.address
    both = ("data_root", "cache_dir", "detect", "max_seeds", "path")
    asked: dict[str, Any] = {name: getattr(options, name) for name in both}
    asked["reuse"] = not options.no_reuse
    if options.dry_run:
        commands.print_dry_run(wanted, address, asked)
        return
    report = FinalReport()
    outcome = study.run_study(
        wanted,
        address=address,
        in_process=options.in_process,
        verbose=options.verbose,
        storage=options.storage,
        accept_changes=options.accept_changes,
        ask=commands.confirmed if commands.somebody_is_there() else None,
        before=report.before,
        publish=report.publication,
        **asked,
    )
    finish(outcome, report)


class FinalReport:
    """The report of a run: made once, while no other driver has the study, and printed at the end.

    It also remembers the study's table as it stood before the run.
    """

    _made: pages.Prepared | None = None
    _changes: Callable[[pages.Prepared], list[str]] | None = None

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
            ReportError: there is no report; show() tries once more, and says why.
        """
        self._made = pages.prepare(outcome.experiment, outcome.tracking_uri)
        return self._made.publication

    def show(self, outcome: StudyOutcome) -> None:
        """Print and write it, and say what the run has changed.

        Raises:
            ReportError: it cannot be made or written.
        """
        made = self._made or pages.prepare(outcome.experiment, outcome.tracking_uri)
        made.show(Path(f"{outcome.experiment}-report"))
        for line in self._changes(made) if self._changes else ():
            typer.echo(line)


def finish(outcome: StudyOutcome, report: FinalReport) -> None:
    """Print the report and how to see the runs of a study that has run.

    Raises:
        typer.Exit: it is not complete, or its report cannot be written, which does not undo it.
    """
    unwritten = ""
    if outcome.done:
        try:
            report.show(outcome)
        except ReportError as error:
            unwritten = str(error)
    uri = redacted(outcome.tracking_uri)
    command = f"mlflow ui --backend-store-uri {shlex.quote(uri)} --port 5000"
    if uri.startswith(("http://", "https://")):
        command = f"open {uri}"
    typer.echo(f"all runs (experiment {outcome.experiment}): {command}")
    for fault in filter(None, (unwritten, outcome.unpublished)):
        typer.echo(fault, err=True)
    if outcome.interrupted:
        _end(INTERRUPTED, f"interrupted: {_GOES_ON}")
    failed, missing = outcome.failed, outcome.missing
    if failed or missing:
        way_on = _GOES_ON
        if outcome.final:
            way_on = "none is tried again, as a loss that is not finite is not so by chance"
        lacks = f"{missing} {'is' if missing == 1 else 'are'} missing"
        _end(INCOMPLETE, f"incomplete: {count(failed, 'setting')} failed, {lacks}; {way_on}")
    if unwritten:
        raise typer.Exit(USER_MISTAKE)
