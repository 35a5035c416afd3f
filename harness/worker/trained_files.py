"""What a setting has trained under its seeds, as the files that its run keeps."""

from typing import Any

from reports.contract import TRAINED


def trained_files(trial: Any) -> dict[str, bytes]:
    """The files of a trial, by name among its run's artifacts; {}: the trial keeps nothing.

    Args:
        trial: that has ended (ship.trial.run.TrialRun).
    """
    files = getattr(trial, "trained", None) or {}
    return {f"{TRAINED}/{name}": content for name, content in files.items()}
