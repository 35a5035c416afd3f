"""The end of a run of ship-sweep: the report, where the runs are, and the exit code."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from reports.contract import ReportError, redacted

if TYPE_CHECKING:
    from harness.planning import StudyOutcome
    from reports.cli import Prepared
    from reports.contract import Publication

COMPLETE, BROKEN, USER_MISTAKE, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130


class FinalReport:
    """The report of a run: made once, while the study is held, and printed at the end.

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
    code = COMPLETE
    if outcome.interrupted and outcome.done == outcome.arms:  # a table would be dashes
        arms = f" but {outcome.arms} reference arm{'' if outcome.arms == 1 else 's'}"
        which = arms if outcome.arms else ""
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
    counts = f"{failed} setting{'' if failed == 1 else 's'} failed, {missing} "
    typer.echo(f"incomplete: {counts}{'is' if missing == 1 else 'are'} missing; {way_on}", err=True)
    return INCOMPLETE
