"""A store that a study goes on without: while it is away, changes wait on disk and follow in order.

The first changes that get no answer go into a file (Pending), and so do all later ones, until
those before them were sent. Whatever is killed, the next run of the study sends what is left, and
each run is as if written once (changes.py).
"""

import hashlib
import math
import os
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from harness.machine import environment, locked
from harness.store.changes import LEFT, Changes, close_dead_runs, send
from harness.store.errors import NoAnswer, StoreAway, StoreError, again, store_errors
from harness.store.lease import Holder, Lease, StudyBusy, StudyLost, Timing, fenced, read_holder
from harness.store.open import CLIENT_ENVIRONMENT, Store, open_store
from harness.store.schema import Tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PAUSE = 1.0  # seconds between two tries of a store that is away
# While trials run, the next try waits this many times as long as the last one took, or longer: the
# trials wait for the driver during a try.
REST = 10
TURN = 1.0  # seconds for which a new write may send older ones first
PATIENCE = 300.0  # seconds without progress that a read, or a study's end, waits for the store
HURRIED = 5.0  # the same once somebody has asked the study to stop

FOLDER = "outbox"

T = TypeVar("T")
Say = Callable[[str], None]


def waiting_file(cache_dir: Path, study: str, driver: str) -> Path:
    """Where the changes of a driver wait: of one that was replaced, nobody asks for them again.

    Args:
        cache_dir: holds the folder of such files.
        study: its name, for people.
        driver: token of the driver, which no other has, of whatever store; "": there was none.
    """
    digest = hashlib.blake2b(driver.encode(), digest_size=12).hexdigest()  # whatever a tag says
    return cache_dir / FOLDER / f"{study}-{digest}.jsonl"


class Pending:
    """What waits of one driver, oldest first: in memory, and a line of JSON each in its file.

    The file is there as long as something waits. A last line without its end is of a driver that
    was killed while it wrote it. What was sent from a file goes with the whole of it: sent once
    more, it changes nothing (changes.py).

    path: of the file. waiting: the changes in it.
    """

    def __init__(self, path: Path) -> None:
        """Load what is in the file; it need not be there.

        Raises:
            StoreError: the file cannot be read, or a line is damaged; nothing was changed.
        """
        self.path = path
        self.waiting: deque[Changes] = deque()
        self._end = 0  # of the last whole line
        with _usable(path), suppress(FileNotFoundError), path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    self.waiting.append(Changes.model_validate_json(line))
                    self._end += len(line)

    def append(self, changes: Changes) -> None:
        """Add changes; they are on disk when this returns.

        Raises:
            StoreError: they cannot be written, and what waited before them still does.
        """
        line = changes.model_dump_json().encode() + b"\n"
        with _usable(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.seek(self._end)
                file.truncate()
                file.write(line)
                file.flush()
                os.fsync(handle)
        self._end += len(line)
        self.waiting.append(changes)

    def done(self) -> None:
        """The oldest changes have reached the store.

        Raises:
            StoreError: the file cannot be removed, as it is where nothing waits any more.
        """
        if len(self.waiting) == 1:
            with _usable(self.path):
                self.path.unlink()
            self._end = 0
        self.waiting.popleft()


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the file into one line that names it.

    Raises:
        StoreError: it cannot be used, or is damaged.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot be used: {error.strerror}") from error
    except ValidationError as error:
        raise StoreError(
            f"{path}: is damaged ({error.errors()[0]['msg']}); it was left as it is: repair it, or "
            f"move it away to go on without what waits in it"
        ) from error


@dataclass(eq=False)
class StudyStore(Store):
    """The store of a study that runs: what it writes and asks waits for a store that is away.

    experiment_id: of the study.
    pending: what waits of the study's last driver; in a session, of its own driver.
    say: shows one line to the user.
    """

    experiment_id: str
    pending: Pending
    say: Say
    _driver: str = field(default="", init=False)  # its token, until the store has noted it
    _next_try: float = field(default=0.0, init=False)  # of a store that is away, while trials run
    _moved: float = field(default=0.0, init=False)  # when something that had waited was last sent
    _patience: float = field(default_factory=lambda: PATIENCE, init=False)

    @contextmanager
    def session(self, driver: str, own: Path) -> Iterator[None]:
        """A driver's work; what waits, of the driver before it, is sent before anything else.

        Args:
            driver: its token.
            own: the file in which its own writes may wait.

        Raises:
            StoreAway: writes are left on disk, of this run or an earlier one.
            StoreError: the store refuses one, or their file cannot be used.
        """
        left = self.pending
        if left.waiting:
            many = len(left.waiting)
            self.say(f"{many} writes of an earlier run wait in {left.path}: sending them")
        try:
            self.read(lambda client: None)
            self.pending, self._driver = Pending(own), driver
            yield
            self.read(lambda client: None)
        except (StoreError, StudyBusy, StudyLost):
            raise
        except BaseException:
            if self.pending.waiting:
                self.say(f"writes wait in {self.pending.path}; run the same command again")
            raise

    def write(self, changes: Changes) -> None:
        """Send changes at once; where the store is away, put them behind those that wait.

        Raises:
            StoreError: the store refuses them, or some that had waited, or they cannot be put on
                disk.
        """
        if self._driver:  # from its first write on, what others have left is out of date
            tag = (self.experiment_id, Tag.LAST_DRIVER, self._driver)
            self.read(lambda client: client.set_experiment_tag(*tag))
            self._driver = ""
        began = time.monotonic()
        if not self.pending.waiting or began >= self._next_try:
            try:
                self.send_waiting(TURN)
                if not self.pending.waiting:
                    super().write(changes)
                    return
            except NoAnswer as error:
                now = time.monotonic()
                self._next_try = max(self._next_try, now + PAUSE, now + REST * (now - began))
                if not self.pending.waiting:
                    where = self.pending.path
                    self.say(f"{error}: the study goes on, its writes wait in {where}")
        self.pending.append(changes)

    def read(self, ask: Callable[["MlflowClient"], T]) -> T:
        """Ask the store something once it has all that was written.

        Raises:
            StoreAway: it does not answer within PATIENCE, or HURRIED.
            StoreError: it refuses the question, or something that waits.
        """
        began, told = time.monotonic(), False
        while True:
            try:
                self.send_waiting()
                return super().read(ask)
            except NoAnswer as error:
                if time.monotonic() - max(began, self._moved) >= self._patience:
                    wait = f"; writes wait in {self.pending.path}" if self.pending.waiting else ""
                    raise StoreAway(
                        f"{error}{wait}; run the same command again when it does"
                    ) from error
                if not told:
                    told = True
                    self.say(f"waiting up to {self._patience:.0f} s for the MLflow store")
            time.sleep(PAUSE)

    def close_dead_runs(self, reason: str = LEFT) -> int:
        """Leave none of the study's runs RUNNING, see changes.py; returns how many were."""
        return self.read(lambda client: close_dead_runs(client, self.experiment_id, reason))

    def hurry(self) -> None:
        """Somebody has asked the study to stop: wait no longer than HURRIED from now on."""
        self._patience = HURRIED

    def send_waiting(self, seconds: float = math.inf) -> None:
        """Send what waits, the oldest changes first, for so many seconds.

        Raises:
            StoreError: the store does not answer, or refuses some, or the file cannot be changed.
            StudyLost: another driver has taken the study over.
        """
        if not self.pending.waiting:
            return
        end = time.monotonic() + seconds
        while self.pending.waiting and time.monotonic() < end:
            try:
                with store_errors(self.uri):
                    send(self.client, self.pending.waiting[0], self.made, resend=True)
            except NoAnswer:
                raise
            except StoreError as error:
                raise StoreError(
                    f"{error}; this was said of what waits in {self.pending.path}: to go on "
                    f"without it, move the file away"
                ) from error
            self.pending.done()
            self._moved = time.monotonic()
        if not self.pending.waiting:
            self.say("the MLflow store answers again: what waited was sent")


@contextmanager
def own_study(
    uri: str,
    name: str,
    cache_dir: Path,
    timing: Timing,
    fail: Callable[[Exception], None],
    say: Say,
) -> Iterator[StudyStore]:
    """Open the study of a name, and its experiment if need be, and keep others out inside.

    What is given refuses to write once another driver has the study; what it cannot send waits on
    disk.

    Args:
        uri: of the store.
        name: of the study.
        cache_dir: where writes wait while the store is away.
        timing: of the lease.
        fail: called from the thread that keeps the lease when another driver has taken it.
        say: told what is waited for.

    Raises:
        StudyBusy: another driver runs it.
        StoreAway: writes are left on disk, of this run or an earlier one.
        StoreError: the store cannot be used.
    """
    with environment(CLIENT_ENVIRONMENT), ExitStack() as stack:
        with locked(uri, wait=True):
            store = open_store(uri)
            experiment_id = store.create_experiment(name)
        try:
            place = stack.enter_context(locked(f"{uri}\n{name}", wait=False))
        except BlockingIOError as error:
            holder = store.read(lambda client: read_holder(client, experiment_id))
            here = holder is not None and holder.host == socket.gethostname()
            raise StudyBusy(name, holder if here else "another process of this machine") from error
        me = Holder(uuid.uuid4().hex, socket.gethostname(), os.getpid(), place)
        lease = Lease(store.client, experiment_id, name, me, timing, say)
        stack.callback(lease.release)
        with store_errors(uri):
            again(uri, lease.claim)
        found = store.read(lambda client: client.get_experiment(experiment_id))
        lease.start(fail)
        last = waiting_file(cache_dir, name, str(found.tags.get(Tag.LAST_DRIVER, "")))
        client = fenced(store.client, lease)
        study = StudyStore(uri, client, experiment_id, Pending(last), say)
        stack.enter_context(study.session(me.token, waiting_file(cache_dir, name, me.token)))
        yield study
        study.close_dead_runs()
