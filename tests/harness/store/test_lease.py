"""The lease between hosts, on a real store and a clock that the test controls."""

import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest
from mlflow.exceptions import MlflowException

from harness.store import Tag
from harness.store.lease import (
    Lease,
    LeaseOwner,
    StudyBusy,
    StudyLost,
    Timing,
    fence_client,
    read_owner,
)
from harness.store.open import Store
from harness.study.interrupts import Interrupts
from tests.case_files import load_cases


@dataclass
class Clock:
    """Clock that advances only in sleep(). `events` are calls of other drivers at given times."""

    time: float = 1000.0
    events: list[tuple[float, Callable[[], Any]]] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        for event in [event for event in self.events if event[0] <= self.time]:
            self.events.remove(event)
            event[1]()

    @property
    def timing(self) -> Timing:
        """Timing of a lease on this clock."""
        return Timing(claim_pause=0.5, now=self.now, sleep=self.sleep)


@dataclass
class Hosts:
    """One study's experiment, and drivers on several hosts."""

    store: Store
    experiment: str
    clock: Clock = field(default_factory=Clock)
    said: list[str] = field(default_factory=list)

    def lease(self, host: str, place: str | None = None, pid: int = 7) -> Lease:
        """Return a driver's lease that is not claimed yet."""
        me = LeaseOwner(
            f"token of {host} {pid}", host, pid, f"place of {host}" if place is None else place
        )
        return Lease(
            self.store.client, self.experiment, "small", me, self.clock.timing, self.said.append
        )

    def take_lease(self, host: str, place: str | None = None) -> Lease:
        """Return a driver's confirmed lease."""
        lease = self.lease(host, place)
        lease.claim()
        lease.check()
        return lease

    @property
    def tag(self) -> str:
        """The lease's tag in the store."""
        return str(self.store.client.get_experiment(self.experiment).tags.get(Tag.LOCK, ""))


@pytest.fixture
def hosts(store: Store) -> Hosts:
    """Return hosts that share a store."""
    return Hosts(store, store.get_or_create_experiment("small"))


def test_free_lease_is_claimed_and_released(hosts: Hosts) -> None:
    """The tag has the owner, and is deleted on release."""
    lease = hosts.take_lease("a")
    tag = json.loads(hosts.tag)
    assert (tag["host"], tag["pid"], tag["beat"]) == ("a", 7, 2)
    lease.beat()
    assert json.loads(hosts.tag)["beat"] == 3
    lease.release()
    assert hosts.tag == ""
    assert hosts.said == []


@pytest.fixture(autouse=True)
def alive(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return the IDs of the processes that are alive."""
    pids = {7, 8}
    monkeypatch.setattr(psutil, "pid_exists", pids.__contains__)
    return pids


def test_late_write_of_a_dead_driver_is_replaced(hosts: Hosts, alive: set[int]) -> None:
    """Both had the file lock of the host. A driver of another host would be the new owner."""
    dead = hosts.take_lease("a", place="lock")
    lease = hosts.lease("a", place="lock", pid=8)
    alive.remove(7)
    lease.claim()
    lease.beat()
    dead._write()
    lease.beat()
    assert json.loads(hosts.tag)["pid"] == 8
    other = hosts.lease("b")
    other._write()
    with pytest.raises(StudyLost):
        lease.beat()


@pytest.mark.parametrize("failures", [2, 99])
def test_release_is_retried(hosts: Hosts, monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    """One failed request leaves no lease; if the store stays away, release ends in seconds."""
    lease = hosts.take_lease("a")
    began = hosts.clock.time
    calls = itertools.count(1)
    delete_tag = hosts.store.client.delete_experiment_tag

    def spoilt(*args: Any) -> None:
        if next(calls) <= failures:
            raise MlflowException("spoilt")
        delete_tag(*args)

    monkeypatch.setattr(hosts.store.client, "delete_experiment_tag", spoilt)
    lease.release()
    assert (hosts.tag == "") == (failures == 2)
    assert hosts.clock.time - began < 10


SECONDS = load_cases(__file__, "second_driver.yaml")


@pytest.mark.parametrize("case", SECONDS, ids=lambda case: case["id"])
def test_second_driver_watches_the_first(hosts: Hosts, case: dict[str, Any]) -> None:
    """By its own clock: it is refused if the lease is renewed, and takes it over otherwise."""
    first = hosts.take_lease("a", case.get("place"))
    began, waited, busy = hosts.clock.time, case["waited"], "busy" in case
    if "event" in case:
        hosts.clock.events.append((began + case["after"], getattr(first, case["event"])))
    second = hosts.lease(**case["who"])
    if busy:
        named = r"'small' of this store is already being run by process 7 on host a\."
        with pytest.raises(StudyBusy, match=named):
            second.claim()
        first.beat()
    else:
        second.claim()
        assert json.loads(hosts.tag)["token"] == second.me.token
        with pytest.raises(StudyLost, match=f"was taken over by .* on host {second.me.host}"):
            first.beat()
        first.release()
        assert json.loads(hosts.tag)["token"] == second.me.token
    assert waited <= hosts.clock.time - began < waited + 3
    message = "study 'small' is locked by process 7 on host a: waiting up to 60 s to see whether it"
    assert [line.startswith(message) for line in hosts.said[:1]] == ([True] if waited else [])
    assert ("taking over" in "".join(hosts.said)) == (waited == 60 and not busy)


def test_delayed_beat_does_not_overwrite_new_owner(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver suspended between read and write reads again before it writes."""
    first, look = hosts.take_lease("a"), Lease._read
    looks = []

    def suspended(lease: Lease) -> LeaseOwner | None:
        owner = look(lease)
        if lease is first and not looks:
            looks.append(owner)
            hosts.take_lease("b")  # waits for a minute
        return owner

    monkeypatch.setattr(Lease, "_read", suspended)
    with pytest.raises(StudyLost, match="by process 7 on host b"):
        first.beat()
    assert json.loads(hosts.tag)["host"] == "b"


def test_one_of_two_simultaneous_claims_wins(hosts: Hosts) -> None:
    """The driver whose token was overwritten is refused."""
    other = json.dumps(vars(LeaseOwner("other", "b", 8, "")))

    def write() -> None:
        hosts.store.client.set_experiment_tag(hosts.experiment, Tag.LOCK, other)

    hosts.clock.events.append((hosts.clock.time + 0.1, write))
    lease, began = hosts.lease("a"), hosts.clock.time
    lease.claim()
    assert hosts.clock.time == began  # nothing waits before the first write
    with pytest.raises(StudyBusy, match="process 8 on host b"):
        lease.check()
    lease.release()
    assert json.loads(hosts.tag)["token"] == "other"


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"token": 1}', "5"])
def test_unparsable_lease_is_watched_like_any_other(hosts: Hosts, text: str) -> None:
    """It may be from a later version."""
    hosts.store.client.set_experiment_tag(hosts.experiment, Tag.LOCK, text)
    began = hosts.clock.time
    hosts.take_lease("a")
    assert hosts.clock.time - began >= 60
    assert "no heartbeat from another driver" in hosts.said[-1]


def test_fresh_lease_is_not_read_before_a_write(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is read only if the last beat is too old."""
    lease = hosts.take_lease("a")
    looks: list[str] = []
    monkeypatch.setattr(
        "harness.store.lease.read_owner", lambda *_: looks.append("look") or lease.me
    )
    lease.check()
    assert looks == []
    hosts.clock.time += 31
    lease.check()
    lease.check()
    assert looks == ["look"]
    assert json.loads(hosts.tag)["beat"] == 3


@pytest.mark.parametrize("gone", [False, True])
def test_suspended_driver_writes_nothing_after_takeover(hosts: Hosts, gone: bool) -> None:
    """Its first write is refused, even if the lease is free again by then."""
    first = hosts.take_lease("a")
    client = fence_client(hosts.store.client, first)
    run = client.create_run(hosts.experiment)
    second = hosts.take_lease("b")  # the clock goes on by more than a minute
    if gone:
        second.release()
    with pytest.raises(StudyLost, match="by another driver" if gone else "host b"):
        client.set_tag(run.info.run_id, "late", "1")
    with pytest.raises(StudyLost):
        client.log_batch(run.info.run_id, metrics=[], params=[], tags=[])
    assert "late" not in client.get_run(run.info.run_id).data.tags


def test_heartbeats_survive_a_store_outage(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats continue after the outage, and a loss is reported once."""
    lease = hosts.take_lease("a")
    lease.timing = Timing(beat=0.01, now=hosts.clock.now)
    lost, losses, beats = threading.Event(), list[StudyLost](), list[int]()
    taker = LeaseOwner("x", "b", 8, "")
    looks = iter(["away"] * 3 + ["there"] * 3 + ["away", "taken"])

    def read(client: Any, experiment: str) -> LeaseOwner | None:
        answer = next(looks, "there")
        if answer == "away":
            raise ConnectionError("no route to host")
        if answer == "taken":
            beats.append(json.loads(hosts.tag)["beat"])
            client.set_experiment_tag(experiment, Tag.LOCK, json.dumps(vars(taker)))
        return read_owner(client, experiment)

    monkeypatch.setattr("harness.store.lease.read_owner", read)
    lease.start(lambda loss: (losses.append(loss), lost.set()))
    assert lost.wait(10) and beats == [2 + 3]
    lease.release()
    assert len(losses) == 1
    assert json.loads(hosts.tag)["token"] == "x"


def test_failure_after_a_signal_is_not_a_second_signal() -> None:
    """The study is ending already; the failure interrupts waits, and is raised."""
    with pytest.raises(StudyLost), Interrupts() as interrupts:
        interrupts.requested = True
        interrupts.fail(StudyLost("lost"))
        threading.Event().wait(10)
