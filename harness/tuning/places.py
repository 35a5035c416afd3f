"""How many trials are given out: one for each place where a trial can run, and one that waits."""

from collections.abc import Iterable, Set
from typing import Any

from harness.cluster import is_worker_starting

MANY = 10_000


class Places:
    """The places where trials run, and which trials have one, with a worker or one that starts.

    Tune starts a worker for a trial, never for a place. So the first trials are given out together,
    and their workers start side by side. One trial more waits for a place: it takes over the next
    worker that has nothing to do, or a node that joins the cluster.

    Attributes:
        n: places that are known; where nodes join there are more.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._placed: frozenset[str] = frozenset()

    def have_room(self, given: Set[str]) -> bool:
        """Whether one trial more is to be given out.

        Args:
            given: ids of the trials that were given out and have not ended.
        """
        return len(given) < self.n or given <= self._placed

    def look(self, tune_controller: Any, trials: Iterable[Any]) -> Any | None:
        """Note which trials have a place, and return the first one that waits for it, if any.

        Args:
            tune_controller: as Tune hands it to schedulers.
            trials: of Tune, in the order in which they were given out.
        """
        placed, waiting = set(), None
        for trial in trials:
            if trial.is_finished():
                continue
            if trial.status == trial.RUNNING or is_worker_starting(tune_controller, trial):
                placed.add(trial.trial_id)
            elif waiting is None:
                waiting = trial
        self._placed = frozenset(placed)
        return waiting
