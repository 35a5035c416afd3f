"""Sends writes to the MLflow store; while it is away they wait on disk, and follow in order.

The first write that gets no answer goes into a file (journal.py), and so does every later one,
until a thread has sent them all. A write leaves the file when the store is known to have it.
Whatever is killed, the next run of the study sends what is left, and each write is in the store as
if sent once (calls.py). While a write waits, only the courier's thread sends; else the caller's.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_result,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential,
)

from harness.errors import UserError
from harness.store.errors import StoreAway, StoreError
from harness.store.outbox.announcements import Announcements, Say
from harness.store.outbox.calls import Sender
from harness.store.outbox.journal import Journal
from harness.store.outbox.retryable import reason, transient
from harness.wording import one_line

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# Seconds between two tries: the pause after the first try, and the longest one that it grows to.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 12.0
# Seconds without progress that a read, or the end of a study, waits for the store.
PATIENCE = 300.0
# Seconds that it waits once somebody has asked the study to stop.
HURRIED = 5.0

T = TypeVar("T")


class Courier:
    """Brings writes to the store, each once and in order, now or later.

    Where the store refuses a write that is sent at once, the exception of MLflow's client is
    raised. Where it refuses a write that had waited, the next call raises a StoreError.
    """

    def __init__(
        self, uri: str, sender: Sender, journal: Journal, say: Say, *, background: bool = True
    ) -> None:
        """Begin to send what waits in a journal.

        Args:
            uri: address of the store.
            sender: makes the calls of MLflow's client.
            journal: what waits for this store and experiment.
            say: shows one line to the user; it is called from any thread.
            background: whether a thread sends what waits; otherwise deliver() alone does.
        """
        self._uri = uri
        self.sender = sender
        self._journal = journal
        self._announce = Announcements(journal, say)
        self._background = background
        # held while the journal, thread or fault changes; notified of each write sent and fault
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._fault: UserError | None = None
        self._reason = "no answer"
        self._sent = 0  # writes that got through since the store went away
        self._hurried = False
        self._start()

    @property
    def waiting(self) -> int:
        """The number of writes that wait on disk."""
        return len(self._journal.waiting)

    def write(self, call: str, arguments: Mapping[str, Any]) -> None:
        """Send a write at once; where the store is away, put it behind those that wait.

        Args:
            call: name of the call of MLflow's client.
            arguments: of the call, in JSON's types.

        Raises:
            StoreError: the write cannot be put on disk, or one that had waited was refused.
        """
        with self._changed:
            if self._fault is not None:
                raise self._fault
            if not self.waiting:
                try:
                    self.sender.send(call, arguments, again=False)
                    return
                except Exception as error:
                    if not self._is_away(error):
                        raise
            try:
                self._journal.append(call, arguments)
            except StoreError as error:
                self._fault = error
                raise
            self._start()

    def read(self, ask: Callable[["MlflowClient"], T]) -> T:
        """Ask the store something once it has all writes.

        Raises:
            StoreAway: it does not answer within PATIENCE, or HURRIED.
            StoreError: it refuses a write that waits.
        """
        self.flush()
        tell = self._announce.of_a_wait()

        def give_up(state: RetryCallState) -> T:
            error = state.outcome.exception() if state.outcome else None
            raise StoreAway(self.left()) from error

        pause = wait_exponential(FIRST_PAUSE, LONGEST_PAUSE)
        retrying = Retrying(
            retry=retry_if_exception(self._is_away),
            stop=lambda state: (state.seconds_since_start or 0.0) >= self._patience(),
            wait=lambda state: min(pause(state), self._patience()),
            before_sleep=lambda state: tell(self._reason, self._patience()),
            retry_error_callback=give_up,
        )
        return retrying(ask, self.sender.client)

    def flush(self) -> None:
        """Block until the store has all writes.

        Raises:
            StoreAway: no write got through within PATIENCE, or HURRIED.
            StoreError: the store refuses a write.
        """
        last, sent, tell = time.monotonic(), self._sent, self._announce.of_a_wait()
        while True:
            with self._changed:
                if self._fault is not None:
                    raise self._fault
                if not self.waiting:
                    return
                self._changed.wait(0.2)
                # progress starts the wait anew, unless the study has been asked to stop
                if self._sent != sent and not self._hurried:
                    sent, last = self._sent, time.monotonic()
            if time.monotonic() - last >= self._patience():
                raise StoreAway(self.left())
            tell(self._reason, self._patience())

    def hurry(self) -> None:
        """Somebody has asked the study to stop: wait no longer than HURRIED from now on."""
        self._hurried = True

    def close(self) -> None:
        """Stop sending; writes that wait stay on disk."""
        with self._changed:
            self._closed.set()

    def left(self) -> str:
        """Say in one line that the store is away, what waits on disk, and what to do about it."""
        return self._announce.what_is_left(self._uri, self._reason)

    def deliver(self) -> bool:
        """Send the oldest write that waits, if any.

        Returns:
            Whether it got through; False also where nothing waits, or the courier is closed.

        Raises:
            StoreError: the store refuses the write, or the file cannot be changed.
            UserError: another driver has taken the study over.
        """
        with self._changed:
            if self._closed.is_set() or not self.waiting:
                return False
            queued = self._journal.waiting[0]
        try:
            self.sender.send(queued.call, queued.arguments, again=True)
        except UserError:  # another driver has taken the study over
            raise
        except Exception as error:
            if self._is_away(error):
                return False
            raise StoreError(
                f"{self._uri}: the MLflow store refused write {queued.number} of "
                f"{self._journal.path}: {one_line(error)}; nothing was thrown away: to go on "
                f"without what waits: {self._journal.way_out}"
            ) from error
        with self._changed:
            if self._closed.is_set():
                return False
            self._journal.done()
            self._sent += 1
            if not self.waiting:
                self._announce.store_is_back(self._sent)
                self._sent = 0
            self._changed.notify_all()
        return True

    def _start(self) -> None:
        """Start the thread that sends, if one is wanted and none runs."""
        if self._background and self._thread is None and self.waiting:
            self._thread = threading.Thread(target=self._drain, name="outbox", daemon=True)
            self._thread.start()

    def _drain(self) -> None:
        """Send until nothing waits; what the thread runs."""
        retrying = Retrying(
            retry=retry_if_result(lambda sent: not sent),
            stop=stop_when_event_set(self._closed),
            wait=wait_exponential(FIRST_PAUSE, LONGEST_PAUSE),
            sleep=sleep_using_event(self._closed),
            before_sleep=lambda state: self._tell_store_away(),
            retry_error_callback=lambda state: False,
        )
        try:
            while True:
                with self._changed:
                    if self._closed.is_set() or not self.waiting:
                        self._thread = None
                        return
                retrying(self.deliver)
        except Exception as error:  # kept, so that the caller's next call raises it
            with self._changed:
                told = f"{self._uri}: the outbox failed: {one_line(error)}"
                self._fault = error if isinstance(error, UserError) else StoreError(told)
                self._changed.notify_all()

    def _is_away(self, error: BaseException) -> bool:
        """Whether an error says that the store is away; if so, its reason is kept for messages."""
        away = transient(error, self._uri)
        if away:
            self._reason = reason(error)
        return away

    def _patience(self) -> float:
        """Seconds that the store is waited for."""
        return HURRIED if self._hurried else PATIENCE

    def _tell_store_away(self) -> None:
        """Tell the user that the store is away, unless the courier is closed."""
        if not self._closed.is_set():
            self._announce.store_is_away(self._reason)
