"""Allow one driver per study among all hosts that share a store, by a lease in the store.

The lease is a tag of the study's experiment. It contains the owner and a counter that the owner
increases with every heartbeat. Clocks of different hosts are never compared: a driver that finds a
lease watches the counter by its own clock, and takes the lease over once the counter has not
changed for `expiry` seconds. If the store cannot be read for some of this time, the owner may have
been unable to write its heartbeats, so the seconds are counted from 0 again.

MLflow's tags have no compare-and-set. A driver claims the lease by writing its token. Before its
next write it pauses for `claim_pause` seconds, and then reads the tag back: if it reads another
token, it has lost. A driver that finds its study already complete has nothing else to write, so it
never pauses.

One race remains. If two drivers find the lease free at the same moment, one of them may be delayed
between its read and its write for longer than the other's pause. Both then run until the next
heartbeat of the driver whose token was overwritten, at most `beat_interval` seconds. The store may
then have runs of both drivers. If both ran the same configuration and seed, only one of the two
runs counts (see harness.store.history).
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
        beat_interval: Time between two heartbeats.
        expiry: Time without a heartbeat after which another driver may take the lease over.
        claim_pause: Minimum time between the write of a claim and the read that confirms it.
        now: Function that returns the current time in seconds.
        sleep: Function that waits for a number of seconds.
    """

    beat_interval: float = 10.0
    expiry: float = 60.0
    claim_pause: float = 0.5
    now: Callable[[], float] = get_boot_seconds
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class LeaseOwner:
    """Owner of a lease, as its tag describes it.

    Attributes:
        token: Unique ID of the driver. If the tag cannot be parsed, the token is the tag's whole
            text, and the other attributes have their defaults.
        host: Name of the driver's host. "" if not known.
        pid: ID of the driver's process. 0 if not known.
        lock_id: ID of the driver's file lock, which is unique to a boot of the host (see
            `harness.machine.hold_lock`). "" if not known.
        n_writes: Number of times that the owner has written the tag. Every heartbeat adds 1.
    """

    token: str
    host: str = ""
    pid: int = 0
    lock_id: str = ""
    n_writes: int = 0

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}" if self.host else "another driver"


def read_owner(client: "MlflowClient", experiment_id: str) -> LeaseOwner | None:
    """Return the owner of the lease of a study's experiment, or None if the lease is free.

    Raises:
        Exception: Any error of MLflow's client.
    """
    tag = str(client.get_experiment(experiment_id).tags.get(Tag.LEASE, ""))
    try:
        return LeaseOwner(**json.loads(tag)) if tag else None
    except (ValueError, TypeError):
        return LeaseOwner(tag)


@dataclass
class Lease:
    """This process's lease of a study.

    `claim`, `beat` and `check` may also raise any error of MLflow's client.

    Attributes:
        client: Client of the store without the checks of `fence_client`.
        experiment_id: MLflow's ID of the study's experiment.
        study: Name of the study in messages.
        me: This driver as the owner of the lease.
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
        # Times are those of timing.now.
        self._claimed_at = 0.0  # when the write of the last claim had returned
        self._renewed_at = -math.inf  # start of the last beat that confirmed the lease
        self._lost: StudyBusy | StudyLost | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def claim(self) -> None:
        """Claim the lease if it is free or its owner is dead. The call can be repeated.

        If another driver owns the lease, the call waits for `timing.expiry` seconds to see whether
        that driver is alive, or longer if the store cannot be read for some of this time.

        Raises:
            StudyBusy: The owner is alive. The message names its host and process.
        """
        owner = self._read()
        # This process has the file lock, so an earlier owner of the same lock is dead.
        if owner and not self._has_my_lock(owner) and not self._is_me(owner):
            self._wait_for_expiry(owner)
        self._write()
        self._claimed_at = self.timing.now()

    def beat(self) -> None:
        """Check that this process has the lease, and renew it unless `release` was called.

        The first beat confirms the claim. It begins `claim_pause` seconds after the claim's write.

        Raises:
            StudyBusy: Another driver claimed the lease at the same moment, and won.
            StudyLost: Another driver has taken over the lease.
        """
        timing = self.timing
        timing.sleep(max(0.0, self._claimed_at + timing.claim_pause - timing.now()))
        while True:
            start = timing.now()
            owner = self._read()
            # A dead driver's last write may reach the store late. The beat then replaces it.
            if not self._is_me(owner) and not self._is_late_write(owner):
                self._lost = self._lost or self._make_loss_error(owner)
                raise self._lost
            if self._stop.is_set():
                return
            # If this process was suspended during the read, another driver may have taken over
            # since. The owner is then read again.
            if timing.now() - start <= timing.expiry / 2:
                break
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
            self.client.delete_experiment_tag(self.experiment_id, Tag.LEASE)

    def _send_heartbeats(self, on_loss: Callable[[Exception], None]) -> None:
        # The loop also ends if check() has noticed the loss and raised the error itself.
        while not self._stop.wait(self.timing.beat_interval) and self._lost is None:
            try:
                self.beat()
            except (StudyBusy, StudyLost) as loss:
                if not self._stop.is_set():
                    on_loss(loss)
            except Exception:  # the store does not answer; MLflow may raise anything
                continue

    def _wait_for_expiry(self, owner: LeaseOwner) -> None:
        """Wait until another driver's lease is released or has expired.

        The lease expires when `timing.expiry` seconds have been counted without a heartbeat. Only
        the time between reads counts, not the time that reads take. The count begins at 0 again
        after a failed read, and after a gap of more than `timing.expiry / 2` seconds.

        Raises:
            StudyBusy: The lease was renewed, so its owner is alive.
            Exception: The store could not be read for `2 * timing.expiry` seconds. Any error of
                MLflow's client.
        """
        timing = self.timing
        self.print_line(
            f"study {self.study!r} is leased by {owner}: waiting up to {timing.expiry:g} s to see "
            f"whether it is still running"
        )
        seconds = 0.0  # counted without a heartbeat
        last_read_at = timing.now()  # when the last successful read had returned
        has_failed = False  # whether a read has failed since then
        while True:
            timing.sleep(POLL_SECONDS)
            started_at = timing.now()
            try:
                owner_now = self._read()
            except Exception:  # the server may be restarting
                if timing.now() - last_read_at >= 2 * timing.expiry:
                    raise
                has_failed = True
                continue
            if owner_now is None:
                return
            if owner_now != owner:
                raise StudyBusy(self.study, owner_now)
            # A gap without a failed read: the read took long, or this process was suspended.
            gap = timing.now() - last_read_at - POLL_SECONDS
            if has_failed or gap > timing.expiry / 2:
                self.print_line(
                    f"the store could not be read for a time: waiting up to {timing.expiry:g} s "
                    f"from now on to see whether {owner} is still running"
                )
                seconds, has_failed = 0.0, False
            else:
                seconds += started_at - last_read_at
            if seconds >= timing.expiry:
                self.print_line(
                    f"no heartbeat from {owner} for {timing.expiry:g} s: taking over the study"
                )
                return
            last_read_at = timing.now()

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
        self.me = replace(self.me, n_writes=self.me.n_writes + 1)
        self.client.set_experiment_tag(self.experiment_id, Tag.LEASE, json.dumps(vars(self.me)))


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
