"""What a setting has trained under its seeds, as the files that its run keeps."""

from typing import Any

from reports.contract import TRAINED


def trained_files(trial: Any, n_seeds: int) -> dict[str, bytes]:
    """The files of a trial, by name among its run's artifacts; {}: the trial keeps nothing.

    Args:
        trial: that has ended (ship.trial.journal.TrialRun).
        n_seeds: that it ran under.
    """
    trained = getattr(trial, "trained", None)
    if trained is None:
        return {}
    files = trained.files(range(n_seeds))
    return {f"{TRAINED}/{name}": content for name, content in files.items()}
