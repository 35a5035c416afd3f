"""Sends writes to the MLflow store; while it is away they wait on disk, and follow in order.

The first write that gets no answer goes into a file (journal.py), and so does every later one,
until a thread has sent them all. A write leaves the file when the store is known to have it:
whatever is killed, at any moment, the next run of the study sends what is left, and the store is as
if each had been sent once (calls.py). Either the queue is empty and the caller's thread talks to
the store, or it is not and the courier's own does: never both at once.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import UserError
from harness.store.errors import StoreAway, StoreError
from harness.store.outbox.calls import Sender
from harness.store.outbox.journal import QueueError, QueueFile
from harness.store.outbox.retryable import reason, transient
from harness.wording import one_line

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 12.0
# seconds without progress that a read, or the end of a study, waits for the store
PATIENCE = 300.0
# and where somebody has asked the study to stop
HURRIED = 5.0
# a wait that is shorter is not worth a line
UNSEEN = 1.0

Say = Callable[[str], None]
T = TypeVar("T")


class Courier:
    """Brings writes to the store, each once and in order, now or later.

    What the store refuses raises as from MLflow's client; if it had waited, as a StoreError at the
    next call.
    """

    def __init__(
        self, uri: str, sender: Sender, queue: QueueFile, say: Say, *, background: bool = True
    ) -> None:
        """Take over a queue; what waits in it is sent.

        Args:
            uri: of the store.
            sender: makes the calls.
            queue: of this store and experiment.
            say: shows one line, from any thread.
            background: send from a thread; otherwise by deliver() alone.
        """
        self._uri = uri
        self._sender = sender
        self._queue = queue
        self._say = say
        self._background = background
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._fault: UserError | None = None
        self._reason = "no answer"
        self._sent = self._in_a_row = 0
        self._told = self._hurried = False
        self._closed = threading.Event()
        with self._changed:
            self._start()

    @property
    def waiting(self) -> int:
        """How many writes wait."""
        return len(self._queue.waiting)

    def write(self, call: str, arguments: Mapping[str, Any]) -> None:
        """Send a write, or put it behind those that wait."""
        with self._changed:
            if self._fault is not None:
                raise self._fault
            if not self.waiting:
                try:
                    self._sender.send(call, arguments, again=False)
                except Exception as error:
                    if not transient(error, self._uri):
                        raise
                    self._reason = reason(error)
                else:
                    return
            try:
                self._queue.append(call, arguments)
            except QueueError as error:
                self._fault = StoreError(str(error))
                raise self._fault from error
            self._start()

    def read(self, ask: Callable[["MlflowClient"], T]) -> T:
        """Ask the store something once it has all writes.

        Raises:
            StoreAway: it does not answer for as long as it is waited for.
        """
        self.settle()
        started, pause, told = time.monotonic(), FIRST_PAUSE, False
        while True:
            try:
                answer = ask(self._sender.client)
            except Exception as error:
                if not transient(error, self._uri):
                    raise
                self._reason = reason(error)
                if time.monotonic() - started >= self._patience():
                    raise self._away() from error
                if not told and time.monotonic() - started >= UNSEEN:
                    told = True
                    self._tell_wait()
                time.sleep(min(pause, self._patience()))
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return answer

    def settle(self) -> None:
        """Wait until no write waits.

        Raises:
            StoreAway: none got through for as long as they are waited for.
            StoreError: the store refuses one.
        """
        started = last = time.monotonic()
        sent, told = self._sent, False
        while True:
            with self._changed:
                if self._fault is not None:
                    raise self._fault
                if not self.waiting:
                    return
                self._changed.wait(0.2)
                now = time.monotonic()
                if self._sent != sent and not self._hurried:
                    sent, last = self._sent, now
            if now - last >= self._patience():
                raise self._away()
            if not told and now - started >= UNSEEN:
                told = True
                self._tell_wait()

    def hurry(self) -> None:
        """Somebody has asked the study to stop: wait no longer than HURRIED from now on."""
        self._hurried = True

    def close(self) -> None:
        """Stop sending; what waits stays on disk."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()

    def left(self) -> str:
        """One line about what waits on disk."""
        from reports.contract import redacted

        n = f"{self.waiting} write{'s' if self.waiting > 1 else ''}"
        wait = f": {n} wait in {self._queue.path}" if self.waiting else ""
        uri, again = redacted(self._uri), "run the same command again when it does"
        return f"{uri}: the MLflow store does not answer ({self._reason}){wait}; {again}"

    def deliver(self) -> bool:
        """Send the oldest write that waits, if any; whether it got through.

        Raises:
            StoreError: the store refuses it, or the queue's file cannot be written.
        """
        with self._changed:
            if self._closed.is_set() or not self.waiting:
                return False
            queued = self._queue.waiting[0]
        try:
            made = self._sender.send(queued.call, queued.arguments, again=True)
        except Exception as error:
            if isinstance(error, UserError):  # the study has become another driver's
                raise
            if not transient(error, self._uri):
                raise StoreError(self._refused(queued.number, error)) from error
            self._reason = reason(error)
            return False
        with self._changed:
            if self._closed.is_set():
                return False
            try:
                self._queue.done(made)
            except QueueError as error:
                raise StoreError(str(error)) from error
            self._sent += 1
            self._in_a_row += 1
            if not self.waiting:
                self._tell_back()
            self._changed.notify_all()
        return True

    def _start(self) -> None:
        if self._background and self._thread is None and self.waiting:
            self._thread = threading.Thread(target=self._drain, name="outbox", daemon=True)
            self._thread.start()

    def _drain(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with self._changed:
                if self._closed.is_set() or not self.waiting:
                    self._thread = None
                    return
            try:
                if self.deliver():
                    pause = FIRST_PAUSE
                    continue
                self._tell_gone()
            except Exception as error:  # the thread must not end without a word
                with self._changed:
                    told = f"{self._uri}: the outbox failed: {one_line(error)}"
                    self._fault = error if isinstance(error, UserError) else StoreError(told)
                    self._changed.notify_all()
                return
            with self._changed:
                if not self._closed.is_set():
                    self._changed.wait_for(lambda: self._closed.is_set(), pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _patience(self) -> float:
        return HURRIED if self._hurried else PATIENCE

    def _away(self) -> StoreAway:
        return StoreAway(self.left())

    def _refused(self, number: int, error: Exception) -> str:
        return (
            f"{self._uri}: the MLflow store refused write {number} of {self._queue.path}: "
            f"{one_line(error)}; nothing was thrown away: move the file away to go on without it"
        )

    def _tell_gone(self) -> None:
        if not self._told and not self._closed.is_set():
            self._told = True
            self._say(
                f"the MLflow store does not answer ({self._reason}): the study goes on, its writes "
                f"wait in {self._queue.path}"
            )

    def _tell_back(self) -> None:
        if self._told:
            self._told = False
            self._say(f"the MLflow store answers again: {self._in_a_row} writes sent")
        self._in_a_row = 0

    def _tell_wait(self) -> None:
        queued = f"{self.waiting} writes wait in {self._queue.path}"
        what = queued if self.waiting else self._reason
        self._say(f"waiting up to {self._patience():.0f} s for the MLflow store: {what}")
