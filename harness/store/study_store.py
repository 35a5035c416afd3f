"""A store that a study goes on without: while it is away, changes wait on disk and follow in order.

The first changes that get no answer go into a file (pending.py), and so do all later ones, until a
thread has sent them. They leave the file when the store is known to have them. Whatever is killed,
the next run of the study sends what is left, and each run is as if written once (changes.py). While
changes wait, only the thread sends; else whoever writes.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from harness.errors import UserError
from harness.store.changes import Changes, send
from harness.store.errors import StoreAway, StoreError, reason, transient
from harness.store.lease import StudyLost
from harness.store.open import Store
from harness.store.pending import Pending
from harness.wording import one_line
from reports.contract import redacted

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# Seconds between two tries: the pause after the first try, and the longest one that it grows to.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 12.0
# Seconds without progress that a read, or the end of a study, waits for the store.
PATIENCE = 300.0
# Seconds that it waits once somebody has asked the study to stop.
HURRIED = 5.0
# Seconds: a shorter wait is not announced.
UNSEEN = 1.0

CLIENT_ENVIRONMENT = {
    # MLflow's own retries make a run again without looking for it, and hold Tune's loop up
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # at the end of each run it would print the address, with the store's password, to stdout
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

T = TypeVar("T")
Say = Callable[[str], None]


class StudyStore(Store):
    """The store of a study that runs: what it writes and asks waits for a store that is away."""

    def __init__(
        self, store: Store, pending: Pending, say: Say, *, background: bool = True
    ) -> None:
        """Begin to send what waits.

        Args:
            store: to send to.
            pending: what waits for this store and study.
            say: shows one line to the user; it is called from any thread.
            background: whether a thread sends what waits; otherwise deliver() alone does.
        """
        super().__init__(store.uri, store.client, store.artifacts)
        self.pending = pending
        self._say = say
        self._background = background
        # held while what waits, thread or fault change; notified of all that is sent, and of faults
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._fault: UserError | None = None
        self._reason = "no answer"
        self._told_away = False
        self._sent = 0  # writes that got through since the store went away
        self._hurried = False
        self._start()

    def write(self, changes: Changes) -> None:
        """Send changes at once; where the store is away, put them behind those that wait.

        Raises:
            StoreError: the store refuses them, or refused some that had waited, or they cannot be
                put on disk.
        """
        with self._changed:
            if self._fault is not None:
                raise self._fault
            if not self.pending.waiting:
                try:
                    super().write(changes)
                    return
                except StoreError as error:
                    if not self._is_away(error):
                        raise
            try:
                self.pending.append(changes)
            except StoreError as error:
                self._fault = error
                raise
            self._start()

    def read(self, ask: Callable[["MlflowClient"], T]) -> T:
        """Ask the store something once it has all that was written.

        Raises:
            StoreAway: it does not answer within PATIENCE, or HURRIED.
            StoreError: it refuses the question, or something that waits.
        """
        self.flush()
        for _ in self._waits():
            try:
                return super().read(ask)
            except StoreError as error:
                if not self._is_away(error):
                    raise
            self._closed.wait(FIRST_PAUSE)
        raise StoreAway(self.left())

    def flush(self) -> None:
        """Block until the store has all that was written.

        Raises:
            StoreAway: nothing got through within PATIENCE, or HURRIED.
            StoreError: the store refuses something.
        """
        for _ in self._waits():
            with self._changed:
                if self._fault is not None:
                    raise self._fault
                if not self.pending.waiting:
                    return
                self._changed.wait(0.2)
        raise StoreAway(self.left())

    def hurry(self) -> None:
        """Somebody has asked the study to stop: wait no longer than HURRIED from now on."""
        self._hurried = True

    def close(self) -> None:
        """Stop sending; what waits stays on disk."""
        with self._changed:
            self._closed.set()

    def left(self) -> str:
        """Say in one line that the store is away, what waits on disk, and what to do about it."""
        n = len(self.pending.waiting)
        wait = f": {n} write{'s' if n > 1 else ''} wait in {self.pending.path}" if n else ""
        away = f"{redacted(self.uri)}: the MLflow store does not answer ({self._reason})"
        return f"{away}{wait}; run the same command again when it does"

    def deliver(self) -> bool:
        """Send the oldest changes that wait, if any.

        Returns:
            Whether they got through; False also where nothing waits, or the store is closed.

        Raises:
            StoreError: the store refuses them, or the file cannot be changed.
            UserError: another driver has taken the study over.
        """
        with self._changed:
            if self._closed.is_set() or not self.pending.waiting:
                return False
            number, changes = self.pending.waiting[0]
        try:
            send(self.client, changes, self.made, again=True)
        except UserError:  # another driver has taken the study over
            raise
        except Exception as error:
            if self._is_away(error):
                return False
            raise StoreError(
                f"{self.uri}: the MLflow store refused write {number} of {self.pending.path}: "
                f"{one_line(error)}; nothing was thrown away: to go on without what waits: "
                f"{self.pending.way_out}"
            ) from error
        with self._changed:
            if self._closed.is_set():
                return False
            self.pending.done()
            self._sent += 1
            if not self.pending.waiting:
                if self._told_away:
                    self._say(f"the MLflow store answers again: {self._sent} writes sent")
                self._told_away, self._sent = False, 0
            self._changed.notify_all()
        return True

    def _start(self) -> None:
        """Start the thread that sends, if one is wanted and none runs."""
        if self._background and self._thread is None and self.pending.waiting:
            self._thread = threading.Thread(target=self._drain, name="pending", daemon=True)
            self._thread.start()

    def _drain(self) -> None:
        """Send until nothing waits; what the thread runs."""
        pause = FIRST_PAUSE
        try:
            while True:
                with self._changed:
                    if self._closed.is_set() or not self.pending.waiting:
                        self._thread = None
                        return
                if self.deliver():
                    pause = FIRST_PAUSE
                else:
                    self._tell_away()
                    self._closed.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
        except Exception as error:  # kept, so that the caller's next call raises it
            with self._changed:
                told = f"{self.uri}: what waits could not be sent: {one_line(error)}"
                self._fault = error if isinstance(error, UserError) else StoreError(told)
                self._changed.notify_all()

    def _is_away(self, error: BaseException) -> bool:
        """Whether an error says that the store is away; if so, its reason is kept for messages."""
        away = transient(error, self.uri)
        if away:
            self._reason = reason(error)
        return away

    def _tell_away(self) -> None:
        """Say that the store is away, once for each time that it goes away."""
        if not self._told_away and not self._closed.is_set():
            self._told_away = True
            self._say(
                f"the MLflow store does not answer ({self._reason}): the study goes on, its writes "
                f"wait in {self.pending.path}"
            )

    def _waits(self) -> Iterator[None]:
        """Goes on as long as the store is waited for, which is announced once.

        Progress starts the wait anew, unless the study has been asked to stop.
        """
        began = last = time.monotonic()
        sent, told = self._sent, False
        while time.monotonic() - last < (patience := HURRIED if self._hurried else PATIENCE):
            yield
            if not told and time.monotonic() - began >= UNSEEN:
                told, n = True, len(self.pending.waiting)
                what = f"{n} writes wait in {self.pending.path}" if n else self._reason
                self._say(f"waiting up to {patience:.0f} s for the MLflow store: {what}")
            if self._sent != sent and not self._hurried:
                sent, last = self._sent, time.monotonic()


@contextmanager
def study_store(store: Store, pending: Pending, say: Say) -> Iterator[StudyStore]:
    """The store of a study; what the study's last driver left is sent before anything else.

    Args:
        store: to send to.
        pending: what waits.
        say: shows one line.

    Raises:
        StoreAway: writes are left on disk, of this run or an earlier one.
        StoreError: the store refuses one, or their file cannot be used.
    """
    if pending.left_out:
        say(
            f"another driver has run the study since: writes of one that it replaced are left out, "
            f"and kept in {pending.path}"
        )
    if pending.waiting:
        say(f"{len(pending.waiting)} writes of an earlier run wait in {pending.path}: sending them")
    own = StudyStore(store, pending, say)
    try:
        own.flush()
        yield own
        own.flush()
    except StoreAway as error:
        raise StoreAway(own.left()) from error  # writes were added after it was raised
    except StoreError:
        raise
    except BaseException as error:
        if pending.waiting:
            lost = f"left out, as another driver has the study: {len(pending.waiting)} writes in "
            say(f"{lost}{pending.path}" if isinstance(error, StudyLost) else own.left())
        raise
    finally:
        own.close()
