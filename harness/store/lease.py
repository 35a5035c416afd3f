"""Allow one driver per study among all hosts that share a store, by a lease in the store.

The lease is a tag of the study's experiment. It contains the owner and a counter that the owner
increases with every heartbeat. Clocks of different hosts are never compared: a driver that finds a
lease watches the counter by its own clock, and takes the lease over once the counter has not
changed for `expiry` seconds.

MLflow's tags have no compare-and-set. A driver claims the lease by writing its token. After a pause
(`claim_pause`) and before any other write, it reads the tag back: if it reads another token, it has
lost. A driver whose study is complete makes no other write, and therefore does not pause.

One race remains. If two drivers find the lease free at the same moment, one of them may be delayed
between its read and its write for longer than the other's pause. Both then run until the next
heartbeat of the driver whose token was overwritten, at most `beat` seconds. Runs of both may be in
the store; the run history counts one of them per seed.
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
from harness.store.errors import READ_METHODS, wrap_client
from harness.store.schema import Tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

JOIN_SECONDS = 2.0  # maximum time to wait for the thread of the heartbeats when it is stopped
# Release of the lease: maximum tries, seconds after which no retry begins, and first pause.
RELEASE_TRIES, RELEASE_SECONDS, RELEASE_PAUSE = 5, 5.0, 0.1
POLL_SECONDS = 1.0  # between two reads of another driver's lease


class StudyBusy(UserError):
    """Another process runs the same study."""

    def __init__(self, study: str, owner: "LeaseOwner | str | None") -> None:
        """Create the error.

        Args:
            study: Name of the study.
            owner: Driver that runs it, or its description as text. None if it is not known.
        """
        owner_text = owner or "another driver"
        super().__init__(
            f"study {study!r} of this store is already being run by {owner_text}. Wait until that "
            f"process ends, or stop it first"
        )


class StudyLost(UserError):
    """Another driver has taken over the study. This one must not write any more."""


def get_boot_seconds() -> float:
    """Return the seconds of a monotonic clock that also runs while the machine sleeps.

    On systems without CLOCK_BOOTTIME, the clock stops while the machine sleeps.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True)
class Timing:
    """Timing of a lease, in seconds.

    Attributes:
        beat: Time between two heartbeats.
        expiry: Time without a heartbeat after which a lease is free.
        claim_pause: Minimum time between a claim and the read that confirms it.
        now: Function that returns the current time in seconds.
        sleep: Function that waits for a number of seconds.
    """

    beat: float = 10.0
    expiry: float = 60.0
    claim_pause: float = 0.5
    now: Callable[[], float] = get_boot_seconds
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class LeaseOwner:
    """Owner of a lease, as its tag describes it.

    Attributes:
        token: Unique ID of the driver. If the tag cannot be parsed, its whole text; the other
            attributes then have their defaults.
        host: Name of the driver's host. "" if not known.
        pid: ID of the driver's process. 0 if not known.
        lock_id: ID of the driver's file lock, which is unique to a boot of the host (see
            `harness.machine.hold_lock`). "" if not known.
        beat: Number of times that the owner has written the tag.
    """

    token: str
    host: str = ""
    pid: int = 0
    lock_id: str = ""
    beat: int = 0

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}" if self.host else "another driver"


def read_owner(client: "MlflowClient", experiment_id: str) -> LeaseOwner | None:
    """Return the owner of the lease of a study's experiment, or None if the lease is free.

    Raises:
        Exception: Any error of MLflow's client.
    """
    tag = str(client.get_experiment(experiment_id).tags.get(Tag.LOCK, ""))
    try:
        return LeaseOwner(**json.loads(tag)) if tag else None
    except (ValueError, TypeError):
        return LeaseOwner(tag)


@dataclass
class Lease:
    """This process's lease of a study. All methods may also raise errors of MLflow.

    Attributes:
        client: Client of the store without the checks of `fence_client`.
        experiment_id: MLflow's ID of the study's experiment.
        study: Name of the study in messages.
        me: This driver as the owner of the lease. Its beat counts its writes of the tag.
        timing: Timing of the lease.
        print_line: Function that prints a line about a wait.
    """

    client: "MlflowClient"
    experiment_id: str
    study: str
    me: LeaseOwner
    timing: Timing
    print_line: Callable[[str], None]

    def __post_init__(self) -> None:
        self._claimed_at = 0.0  # time of the last claim, by timing.now
        self._renewed_at = -math.inf  # start of the last beat that confirmed the lease
        self._lost: StudyBusy | StudyLost | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def claim(self) -> None:
        """Claim the lease if it is free or its owner is dead. The call can be repeated.

        If another driver owns the lease, the call waits for up to `timing.expiry` seconds to see
        whether that driver is alive.

        Raises:
            StudyBusy: The owner is alive. The message names its host and process.
        """
        owner = self._read()
        # This process has the file lock, so an earlier owner of the same lock is dead.
        if owner and not self._has_my_lock(owner) and not self._is_me(owner):
            self._wait_for_expiry(owner)
        self._claimed_at = self.timing.now()
        self._write()

    def beat(self) -> None:
        """Renew the lease. The first beat confirms the claim, after `claim_pause`.

        Raises:
            StudyBusy: Another driver claimed the lease at the same moment, and won.
            StudyLost: Another driver has taken over the lease.
        """
        timing, is_late = self.timing, True
        timing.sleep(max(0.0, self._claimed_at + timing.claim_pause - timing.now()))
        while is_late:
            start = timing.now()
            owner = self._read()
            # A dead driver's last write may reach the store late. The beat then replaces it.
            if not self._is_me(owner) and not self._is_late_write(owner):
                self._lost = self._lost or self._make_loss_error(owner)
                raise self._lost
            if self._stop.is_set():
                return
            # Another driver may have taken over if this process was suspended during the read.
            # The owner is then read again.
            is_late = timing.now() - start > timing.expiry / 2
        self._write()
        self._renewed_at = max(self._renewed_at, start)

    def _make_loss_error(self, owner: LeaseOwner | None) -> "StudyBusy | StudyLost":
        """Return the error to raise: StudyBusy if the claim was never confirmed, else StudyLost."""
        if self._renewed_at < self._claimed_at:
            return StudyBusy(self.study, owner)
        return StudyLost(
            f"study {self.study!r} was taken over by {owner or 'another driver'}. This driver "
            f"writes nothing more; results in the store are kept"
        )

    def check(self) -> None:
        """Check that this process holds the lease. Call this before each write.

        The lease is read from the store only if the last heartbeat that confirmed it is more than
        `timing.expiry / 2` seconds old: before the first beat, after a suspension of the process,
        or while heartbeats do not reach the store.

        Raises:
            StudyBusy: See `beat`.
            StudyLost: See `beat`.
        """
        if self._lost is not None:
            raise self._lost
        if self.timing.now() - self._renewed_at > self.timing.expiry / 2:
            self.beat()

    def start(self, on_loss: Callable[[Exception], None]) -> None:
        """Start a thread that renews the lease. If the store does not answer, it tries again later.

        Args:
            on_loss: Function that the thread calls with StudyBusy or StudyLost, before it ends, if
                another driver has the study.
        """
        self._thread = threading.Thread(
            target=self._send_heartbeats, args=(on_loss,), name="ship-lease", daemon=True
        )
        self._thread.start()

    def release(self) -> None:
        """Stop the heartbeats and free the lease. Raises nothing.

        Failed requests are retried a few times. If the store does not answer, the lease expires.
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
            retrying(self._delete_tag_if_mine)

    def _delete_tag_if_mine(self) -> None:
        if self._lost is None and self._is_me(self._read()):
            # deleted, because MLflow's list of experiments would show an empty tag
            self.client.delete_experiment_tag(self.experiment_id, Tag.LOCK)

    def _send_heartbeats(self, on_loss: Callable[[Exception], None]) -> None:
        # The loop also ends if check() has noticed the loss and raised the error itself.
        while not self._stop.wait(self.timing.beat) and self._lost is None:
            try:
                self.beat()
            except (StudyBusy, StudyLost) as loss:
                if not self._stop.is_set():
                    on_loss(loss)
            except Exception:  # the store does not answer; MLflow may raise anything
                continue

    def _wait_for_expiry(self, owner: LeaseOwner) -> None:
        """Wait until another driver's lease is released or has expired.

        Raises:
            StudyBusy: The lease was renewed, so its owner is alive.
            Exception: The store cannot be read for `2 * timing.expiry` seconds. Any error of
                MLflow's client.
        """
        timing, start = self.timing, self.timing.now()
        self.print_line(
            f"study {self.study!r} is locked by {owner}: waiting up to {timing.expiry:g} s to see "
            f"whether it is still running"
        )
        while True:
            timing.sleep(POLL_SECONDS)
            checked_at = timing.now()
            try:
                owner_now = self._read()
            except Exception:  # the server may be restarting
                if checked_at - start >= 2 * timing.expiry:
                    raise
                continue
            if owner_now is None:
                return
            if owner_now != owner:
                raise StudyBusy(self.study, owner_now)
            if checked_at - start >= timing.expiry:
                self.print_line(
                    f"no heartbeat from {owner} for {timing.expiry:g} s: taking over the study"
                )
                return

    def _is_me(self, owner: LeaseOwner | None) -> bool:
        return owner is not None and owner.token == self.me.token

    def _has_my_lock(self, owner: LeaseOwner) -> bool:
        return bool(owner.lock_id) and owner.lock_id == self.me.lock_id

    def _is_late_write(self, owner: LeaseOwner | None) -> bool:
        """Return True if the tag is from an earlier owner of this file lock that has died."""
        import psutil  # not needed to read a store

        return owner is not None and self._has_my_lock(owner) and not psutil.pid_exists(owner.pid)

    def _read(self) -> LeaseOwner | None:
        return read_owner(self.client, self.experiment_id)

    def _write(self) -> None:
        self.me = replace(self.me, beat=self.me.beat + 1)
        self.client.set_experiment_tag(self.experiment_id, Tag.LOCK, json.dumps(vars(self.me)))


def fence_client(client: "MlflowClient", lease: Lease) -> "MlflowClient":
    """Return a client that begins a write only while this process holds the lease.

    The check is made before a request. A write that is in progress when the process is suspended
    may therefore complete after another driver has taken over the study.
    """

    def check_lease(name: str, call: Callable[[], Any]) -> Any:
        if not name.startswith(READ_METHODS):
            lease.check()
        return call()

    return wrap_client(client, check_lease)
