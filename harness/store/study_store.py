"""A store that a study goes on without: while it is away, changes wait on disk and follow in order.

The first changes that get no answer go into a file (pending.py), and so do all later ones, until
those before them were sent. They leave the file when the store is known to have them. Whatever is
killed, the next run of the study sends what is left, and each run is as if written once
(changes.py).
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from harness.store.changes import Changes, send
from harness.store.errors import (
    StoreAway,
    StoreError,
    own_error,
    patient,
    reason,
    store_errors,
    transient,
)
from harness.store.lease import StudyLost
from harness.store.open import Store
from harness.store.pending import Pending
from harness.wording import one_line
from reports.contract import Tag, redacted

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# Seconds between two tries of a store that is away. While trials run, nothing is tried for so many
# times what the last try took: they wait for the driver meanwhile.
PAUSE, REST = 1.0, 10
# Seconds for which a new write may send older ones first.
TURN = 1.0
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
    """The store of a study that runs: what it writes and asks waits for a store that is away.

    experiment_id: of the study.
    """

    def __init__(self, store: Store, pending: Pending, say: Say) -> None:
        """Build it.

        Args:
            store: to send to.
            pending: what waits for this store and study.
            say: shows one line to the user.
        """
        super().__init__(store.uri, store.client, store.artifacts)
        self.pending, self.experiment_id = pending, pending.experiment_id
        self._say = say
        self._is_last_driver = False
        self._next_try = 0.0  # of a store that is away, while trials run
        self._reason = "no answer"
        self._told_away = False
        self._sent = 0  # writes that got through since the store went away
        self._hurried = False

    def write(self, changes: Changes) -> None:
        """Send changes at once; where the store is away, put them behind those that wait.

        Raises:
            StoreError: the store refuses them, or some that had waited, or they cannot be put on
                disk.
        """
        self._become_last_driver()
        began = time.monotonic()
        if not self.pending.waiting or began >= self._next_try:
            try:
                self.send_waiting(TURN)
                if not self.pending.waiting:
                    super().write(changes)
                    return
            except StoreError as error:
                if not self._is_away(error):
                    raise
                now = time.monotonic()
                self._next_try = max(self._next_try, now + PAUSE, now + REST * (now - began))
        self.pending.append(changes)
        if not self._told_away:
            self._told_away = True
            self._say(
                f"the MLflow store does not answer ({self._reason}): the study goes on, its writes "
                f"wait in {self.pending.path}"
            )

    def read(self, ask: Callable[["MlflowClient"], T]) -> T:
        """Ask the store something once it has all that was written.

        Raises:
            StoreAway: it does not answer within PATIENCE, or HURRIED.
            StoreError: it refuses the question, or something that waits.
        """
        began = last = time.monotonic()
        sent, told = self._sent, False
        while True:
            try:
                self.send_waiting()
                return super().read(ask)
            except StoreError as error:
                if not self._is_away(error):
                    raise
            now, patience = time.monotonic(), HURRIED if self._hurried else PATIENCE
            if self._sent != sent and not self._hurried:  # progress: the wait begins anew
                sent, last = self._sent, now
            if now - last >= patience:
                raise StoreAway(self.left())
            if not told and now - began >= UNSEEN:
                told, n = True, len(self.pending.waiting)
                what = f"{n} writes wait in {self.pending.path}" if n else self._reason
                self._say(f"waiting up to {patience:.0f} s for the MLflow store: {what}")
            time.sleep(PAUSE)

    def hurry(self) -> None:
        """Somebody has asked the study to stop: wait no longer than HURRIED from now on."""
        self._hurried = True

    def left(self) -> str:
        """Say in one line that the store is away, what waits on disk, and what to do about it."""
        n = len(self.pending.waiting)
        wait = f": {n} write{'s' if n > 1 else ''} wait in {self.pending.path}" if n else ""
        away = f"{redacted(self.uri)}: the MLflow store does not answer ({self._reason})"
        return f"{away}{wait}; run the same command again when it does"

    def send_waiting(self, seconds: float = math.inf) -> None:
        """Send what waits, the oldest changes first, for so many seconds.

        Raises:
            StoreError: the store does not answer, or refuses some, or the file cannot be changed.
            StudyLost: another driver has taken the study over.
        """
        end = time.monotonic() + seconds
        while self.pending.waiting and time.monotonic() < end:
            number, changes = self.pending.waiting[0]
            try:
                with store_errors(self.uri):
                    send(self.client, changes, self.made, again=True)
            except StoreError as error:
                if self._is_away(error):
                    raise
                raise StoreError(
                    f"{self.uri}: the MLflow store refused write {number} of {self.pending.path}: "
                    f"{one_line(own_error(error))}; nothing was thrown away: to go on without what "
                    f"waits: {self.pending.way_out}"
                ) from error
            self.pending.done()
            self._sent += 1
        if self._told_away and not self.pending.waiting:
            self._say(f"the MLflow store answers again: {self._sent} writes sent")
            self._told_away, self._sent = False, 0

    def _become_last_driver(self) -> None:
        """Note, before the first write, that what other drivers left unsent is out of date."""
        if not self._is_last_driver:
            with store_errors(self.uri):
                patient(self.client, self.uri).set_experiment_tag(
                    self.experiment_id, Tag.LAST_DRIVER, self.pending.driver
                )
            self._is_last_driver = True

    def _is_away(self, error: BaseException) -> bool:
        """Whether an error says that the store is away; if so, its reason is kept for messages."""
        away = transient(error, self.uri)
        if away:
            self._reason = reason(error)
        return away


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
        own.read(lambda client: None)
        yield own
        own.read(lambda client: None)
    except StoreAway as error:
        raise StoreAway(own.left()) from error  # writes were added after it was raised
    except StoreError:
        raise
    except BaseException as error:
        if pending.waiting:
            lost = f"left out, as another driver has the study: {len(pending.waiting)} writes in "
            say(f"{lost}{pending.path}" if isinstance(error, StudyLost) else own.left())
        raise
