"""What the user is told about a store that is away: that it is, what waits, and that it is back."""

import threading
import time
from collections.abc import Callable

from harness.store.outbox.journal import Journal

# Seconds: a shorter wait for the store is not announced.
UNSEEN = 1.0

Say = Callable[[str], None]


class Announcements:
    """Puts the state of a store that does not answer into lines, and shows each of them once."""

    def __init__(self, journal: Journal, say: Say) -> None:
        """Announce nothing yet.

        Args:
            journal: holds the writes that wait; the lines name its file.
            say: shows one line to the user.
        """
        self._journal = journal
        self._say = say
        self._told_away = False

    def store_is_away(self, reason: str) -> None:
        """Tell the user that the store is away, once for each time that it goes away.

        Args:
            reason: why it is held to be away, for people.
        """
        if not self._told_away:
            self._told_away = True
            self._say(
                f"the MLflow store does not answer ({reason}): the study goes on, its writes "
                f"wait in {self._journal.path}"
            )

    def store_is_back(self, sent: int) -> None:
        """Tell the user that the store is back, if they were told that it was away.

        Args:
            sent: number of writes that got through since it went away.
        """
        if self._told_away:
            self._told_away = False
            self._say(f"the MLflow store answers again: {sent} writes sent")

    def of_a_wait(self) -> Callable[[str, float], None]:
        """A function that announces the wait which begins now: once, and not before UNSEEN.

        The function takes the reason why the store is held to be away, and the seconds that it is
        waited for; it is called again and again while the wait lasts.
        """
        began, told = time.monotonic(), threading.Event()

        def tell(reason: str, patience: float) -> None:
            if time.monotonic() - began >= UNSEEN and not told.is_set():
                told.set()
                n = len(self._journal.waiting)
                what = f"{n} writes wait in {self._journal.path}" if n else reason
                self._say(f"waiting up to {patience:.0f} s for the MLflow store: {what}")

        return tell

    def what_is_left(self, uri: str, reason: str) -> str:
        """A line on a store that is away: what waits on disk, and what to do about it.

        Args:
            uri: address of the store; the line leaves its secrets out.
            reason: why it is held to be away, for people.
        """
        from reports.contract import redacted

        n = len(self._journal.waiting)
        wait = f": {n} write{'s' if n > 1 else ''} wait in {self._journal.path}" if n else ""
        away = f"{redacted(uri)}: the MLflow store does not answer ({reason})"
        return f"{away}{wait}; run the same command again when it does"
