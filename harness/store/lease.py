"""One driver a study among hosts that share a store: a lease that its holder renews all the time.

The lease is a tag of the study's experiment: who holds it, and a count that goes up with every beat
of the holder's heart. No host's clock is compared with another's: whoever finds a lease watches it
by a clock of their own, and takes it over once it has not moved for `expiry` seconds.

MLflow's tags cannot be compared and set in one step. To claim is to write one's own token; before
anything else is written, and a moment after the claim, it is read back: whoever reads another's has
lost. A driver that only reads, as of a study that is complete, does not wait for that. What is
left: of two drivers that find the lease free at the same moment, one may be held up between its
look and its write for longer than the other waits. Then both go on until the first beat of the one
that was overwritten, `beat` seconds at most, and runs of both may be in the store; the ledger takes
one of them.
"""

import json
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import tenacity

from harness.errors import UserError
from harness.store.errors import READS, wrapped
from harness.store.schema import Tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

JOIN_SECONDS = 2.0
RELEASE_TRIES, RELEASE_SECONDS, RELEASE_PAUSE = 5, 5.0, 0.1
LOOK_SECONDS = 1.0  # between two looks at somebody else's lease


class StudyBusy(UserError):
    """Another process runs the same study.

    study: its name. holder: who holds it; None: nobody that is known yet.
    """

    def __init__(self, study: str, holder: "Holder | str | None") -> None:
        who = holder or "another driver"
        super().__init__(f"study {study!r} is being run by {who} on the same store")


class StudyLost(UserError):
    """Another driver has taken the study over; this one must not write any more."""


def steady() -> float:
    """Seconds on a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True)
class Timing:
    """Of a lease, in seconds.

    beat: between two beats. expiry: without a beat, after which a lease is free.
    claim_pause: between a claim and reading it back, at least.
    now, sleep: the clock.
    """

    beat: float = 10.0
    expiry: float = 60.0
    claim_pause: float = 0.5
    now: Callable[[], float] = steady
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as its tag says.

    token: differs for every driver; of a tag that cannot be read, the whole of it.
    host: name of the host that the driver runs on; "": not known.
    pid: of the driver's process.
    place: which lock of which start of the host the driver has (harness.machine.locked).
    beat: how many times the holder has written the tag.
    """

    token: str
    host: str = ""
    pid: int = 0
    place: str = ""
    beat: int = 0

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}" if self.host else "another driver"


def read_holder(client: "MlflowClient", experiment_id: str) -> Holder | None:
    """Who holds the lease of a study's experiment; None: nobody."""
    tag = str(client.get_experiment(experiment_id).tags.get(Tag.LOCK, ""))
    try:
        return Holder(**json.loads(tag)) if tag else None
    except (ValueError, TypeError):
        return Holder(tag)


@dataclass
class Lease:
    """This process's hold on a study; methods raise what MLflow raises, unless they say otherwise.

    client: of the store, which no `check` stands before.
    study: what messages call it.
    me: this process, and how often it has written the tag.
    say: told what is waited for.
    """

    client: "MlflowClient"
    experiment_id: str
    study: str
    me: Holder
    timing: Timing
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self._claimed = 0.0
        self._renewed = -math.inf  # when the last beat began that found the lease to be ours
        self._lost: StudyBusy | StudyLost | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def claim(self) -> None:
        """Take the lease if it is free, or its holder is dead; made twice, it is as made once.

        Raises:
            StudyBusy: it is held; host and process are named.
        """
        holder = self._read()
        # whoever had the very lock that this process has now is dead
        is_dead = holder and holder.place and holder.place == self.me.place
        if holder and not is_dead and not self._is_me(holder):
            self._watch(holder)
        self._claimed = self.timing.now()
        self._write()

    def beat(self) -> None:
        """Renew the lease; the first time it is the claim that is read back, after `claim_pause`.

        Raises:
            StudyBusy: another driver's claim, made at the same moment, stands.
            StudyLost: it is not this process's any more.
        """
        timing, late = self.timing, True
        timing.sleep(max(0.0, self._claimed + timing.claim_pause - timing.now()))
        while late:
            began = timing.now()
            holder = self._read()
            if not self._is_me(holder):
                self._lost = self._lost or self._loss(holder)
                raise self._lost
            if self._stop.is_set():
                return
            # suspended meanwhile, this process may have been replaced: it looks again
            late = timing.now() - began > timing.expiry / 2
        self._write()
        self._renewed = max(self._renewed, began)

    def _loss(self, holder: Holder | None) -> "StudyBusy | StudyLost":
        """Why the study is not this process's: it never was, or it is not any more."""
        if self._renewed < self._claimed:
            return StudyBusy(self.study, holder)
        return StudyLost(
            f"study {self.study!r} is not this process's any more: {holder or 'somebody'} has "
            f"taken it over; nothing more is written here, and what the store has is kept"
        )

    def check(self) -> None:
        """Make sure that the study is this process's: to be called before each write.

        A process that has never asked, that was suspended, or whose beats do not reach the store,
        asks the store. A call that was under way when the process was suspended is past this check,
        and is finished when the process goes on; no other call begins.

        Raises:
            StudyBusy, StudyLost: it is not, see beat.
        """
        if self._lost is not None:
            raise self._lost
        if self.timing.now() - self._renewed > self.timing.expiry / 2:
            self.beat()

    def start(self, on_loss: Callable[[Exception], None]) -> None:
        """Beat from now on, in a thread of its own; a store that is away is tried again."""
        self._thread = threading.Thread(
            target=self._keep_beating, args=(on_loss,), name="ship-lease", daemon=True
        )
        self._thread.start()

    def release(self) -> None:
        """Stop beating, and leave the study to others; raises nothing.

        One failed request is repeated. A store that is away keeps a lease that expires.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(RELEASE_TRIES)
            | tenacity.stop_after_delay(RELEASE_SECONDS),
            wait=tenacity.wait_exponential(RELEASE_PAUSE),
            sleep=self.timing.sleep,
        )
        with suppress(tenacity.RetryError):
            retrying(self._free)

    def _free(self) -> None:
        if self._lost is None and self._is_me(self._read()):
            # MLflow's list of experiments would show an empty tag
            self.client.delete_experiment_tag(self.experiment_id, Tag.LOCK)

    def _keep_beating(self, on_loss: Callable[[Exception], None]) -> None:
        # what is lost already, check() has told
        while not self._stop.wait(self.timing.beat) and self._lost is None:
            try:
                self.beat()
            except (StudyBusy, StudyLost) as loss:
                if not self._stop.is_set():
                    on_loss(loss)
            except Exception:  # whatever a store that is away makes MLflow raise
                continue

    def _watch(self, holder: Holder) -> None:
        """Return when a lease is free: it was given back, or has not moved for long enough.

        Raises:
            StudyBusy: it moves.
        """
        timing, began = self.timing, self.timing.now()
        self.say(
            f"study {self.study!r} is held by {holder}: waiting to see whether it still runs, "
            f"{timing.expiry:g} s at most"
        )
        while True:
            timing.sleep(LOOK_SECONDS)
            looked = timing.now()
            try:
                seen = self._read()
            except Exception:  # a server that restarts; one that stays away is an error in the end
                if looked - began >= 2 * timing.expiry:
                    raise
                continue
            if seen is None:
                return
            if seen != holder:
                raise StudyBusy(self.study, seen)
            if looked - began >= timing.expiry:
                self.say(f"{holder} has not been heard of for {timing.expiry:g} s: taken over")
                return

    def _is_me(self, holder: Holder | None) -> bool:
        return holder is not None and holder.token == self.me.token

    def _read(self) -> Holder | None:
        return read_holder(self.client, self.experiment_id)

    def _write(self) -> None:
        self.me = replace(self.me, beat=self.me.beat + 1)
        self.client.set_experiment_tag(self.experiment_id, Tag.LOCK, json.dumps(vars(self.me)))


def fenced(client: "MlflowClient", lease: Lease) -> "MlflowClient":
    """The client that begins a write only while the study is this process's.

    A write that is under way when the process is suspended may still be finished after the study
    was lost: the check stands before a call, not within it.
    """

    def checked(name: str, call: Callable[[], Any]) -> Any:
        if not name.startswith(READS):
            lease.check()
        return call()

    return wrapped(client, checked)
