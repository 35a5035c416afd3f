"""The end of a run of ship-sweep: the report, where the runs are, and the exit code."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from harness.outcome import StudyOutcome

COMPLETE, USER_MISTAKE, INCOMPLETE, INTERRUPTED = 0, 2, 3, 130


def finish(outcome: "StudyOutcome", *, fresh: bool) -> int:
    """Print the report and how to see the runs; the exit code of a study that has run.

    Args:
        fresh: whether the command began a new study, which the next one must not.
    """
    name = outcome.called or outcome.experiment
    code = _render(name, outcome.tracking_uri) if outcome.done else COMPLETE
    same = "the same command without --fresh" if fresh else "the same command"
    from reports.redact import redacted

    uri = redacted(outcome.tracking_uri)
    remote = uri.startswith(("http://", "https://"))
    command = f"open {uri}" if remote else f"mlflow ui --backend-store-uri {uri} --port 5000"
    typer.echo(f"all runs (experiment {outcome.experiment}): {command}")
    if outcome.interrupted:
        typer.echo(f"interrupted: {same} goes on from here", err=True)
        return INTERRUPTED
    if outcome.failed or outcome.missing:
        counts = f"{outcome.failed} settings failed, {outcome.missing} are missing"
        again = "runs what is missing" if outcome.missing else "tries them again"
        note = "" if outcome.missing else " (a loss that was not finite stays failed)"
        typer.echo(f"incomplete: {counts}; {same} {again}{note}", err=True)
        return INCOMPLETE
    return code


def _render(name: str, tracking_uri: str) -> int:
    """Print and write the report; a report that cannot be written does not undo the study."""
    from reports.cli import render
    from reports.schema import ReportError

    try:
        render(name, tracking_uri, Path(f"{name}-report"))
    except ReportError as error:
        typer.echo(str(error), err=True)
        return USER_MISTAKE
    return COMPLETE
