"""The lease of a study between drivers on several hosts, on a real store and a simulated clock."""

import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import Mock

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
    """Simulated clock that advances only in sleep().

    Attributes:
        time: The current time in seconds.
        events: Times, and functions that are called at these times.
    """

    time: float = 1000.0
    events: list[tuple[float, Callable[[], Any]]] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        due = [event for event in self.events if event[0] <= self.time]
        for event in due:
            self.events.remove(event)
            _, call = event
            call()

    @property
    def timing(self) -> Timing:
        """Timing of a lease on this clock."""
        return Timing(claim_pause=0.5, now=self.now, sleep=self.sleep)


@dataclass
class Hosts:
    """The experiment of a study, and drivers on several hosts.

    Attributes:
        store: The store with the experiment.
        experiment: ID of the experiment.
        clock: Clock of all drivers.
        lines: Lines that the drivers have printed.
    """

    store: Store
    experiment: str
    clock: Clock = field(default_factory=Clock)
    lines: list[str] = field(default_factory=list)

    def make_lease(self, host: str, place: str | None = None, pid: int = 7) -> Lease:
        """Return a driver's lease, which is not claimed yet."""
        lock_place = f"place of {host}" if place is None else place
        owner = LeaseOwner(f"token of {host} {pid}", host, pid, lock_place)
        client, print_line = self.store.client, self.lines.append
        return Lease(client, self.experiment, "small", owner, self.clock.timing, print_line)

    def claim_lease(self, host: str, place: str | None = None) -> Lease:
        """Claim and confirm a lease for a driver."""
        lease = self.make_lease(host, place)
        lease.claim()
        lease.check()
        return lease

    @property
    def tag(self) -> str:
        """The tag of the lease in the store."""
        return str(self.store.client.get_experiment(self.experiment).tags.get(Tag.LEASE, ""))


@pytest.fixture
def hosts(store: Store) -> Hosts:
    """Return hosts that share a store."""
    return Hosts(store, store.get_or_create_experiment("small"))


def test_free_lease_is_claimed_and_released(hosts: Hosts) -> None:
    """The tag has the owner, and is deleted on release."""
    lease = hosts.claim_lease("a")
    tag = json.loads(hosts.tag)
    assert (tag["host"], tag["pid"], tag["n_writes"]) == ("a", 7, 2)
    lease.beat()
    assert json.loads(hosts.tag)["n_writes"] == 3
    lease.release()
    assert hosts.tag == ""
    assert hosts.lines == []


@pytest.fixture(autouse=True)
def alive(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return the IDs of the processes that are alive."""
    pids = {7, 8}
    monkeypatch.setattr(psutil, "pid_exists", pids.__contains__)
    return pids


def test_late_write_of_a_dead_driver_is_replaced(hosts: Hosts, alive: set[int]) -> None:
    """Both drivers are on one host. A write of a driver on another host is not replaced."""
    dead = hosts.claim_lease("a", place="lock")
    lease = hosts.make_lease("a", place="lock", pid=8)
    alive.remove(7)
    lease.claim()
    lease.beat()
    dead._write()
    lease.beat()
    assert json.loads(hosts.tag)["pid"] == 8
    other = hosts.make_lease("b")
    other._write()
    with pytest.raises(StudyLost):
        lease.beat()


@pytest.mark.parametrize("failures", [2, 99])
def test_release_is_retried(hosts: Hosts, monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    """A few failed requests leave no lease. If all requests fail, release() ends in seconds."""
    lease = hosts.claim_lease("a")
    began = hosts.clock.time
    calls = itertools.count(1)
    delete_tag = hosts.store.client.delete_experiment_tag

    def fail_first_calls(*args: Any) -> None:
        if next(calls) <= failures:
            raise MlflowException("request failed")
        delete_tag(*args)

    monkeypatch.setattr(hosts.store.client, "delete_experiment_tag", fail_first_calls)
    lease.release()
    assert (hosts.tag == "") == (failures == 2)
    assert hosts.clock.time - began < 10


SECOND_DRIVERS = load_cases(__file__, "second_driver.yaml")


@pytest.mark.parametrize("case", SECOND_DRIVERS, ids=lambda case: case["id"])
def test_second_driver_waits_for_a_heartbeat_of_the_first(
    hosts: Hosts, case: dict[str, Any]
) -> None:
    """The second driver is refused if there is one within 60 s, and takes over otherwise."""
    first = hosts.claim_lease("a", case.get("place"))
    began, waited, busy = hosts.clock.time, case["waited"], "busy" in case
    if "event" in case:
        hosts.clock.events.append((began + case["after"], getattr(first, case["event"])))
    second = hosts.make_lease(**case["second"])
    if busy:
        message = r"'small' of this store is already being run by process 7 on host a\."
        with pytest.raises(StudyBusy, match=message):
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
    line = "study 'small' is leased by process 7 on host a: waiting up to 60 s to see whether it"
    if waited:
        assert hosts.lines[0].startswith(line)
    else:
        assert hosts.lines == []
    assert ("taking over" in "".join(hosts.lines)) == (waited == 60 and not busy)


def test_delayed_beat_does_not_overwrite_new_owner(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that was suspended between read and write reads again before it writes."""
    first, read_lease = hosts.claim_lease("a"), Lease._read
    suspensions = []

    def read_and_suspend(lease: Lease) -> LeaseOwner | None:
        owner = read_lease(lease)
        if lease is first and not suspensions:
            suspensions.append(owner)
            hosts.claim_lease("b")  # waits for a minute
        return owner

    monkeypatch.setattr(Lease, "_read", read_and_suspend)
    with pytest.raises(StudyLost, match="by process 7 on host b"):
        first.beat()
    assert json.loads(hosts.tag)["host"] == "b"


def test_one_of_two_simultaneous_claims_wins(hosts: Hosts) -> None:
    """The driver whose token was overwritten is refused."""
    other = json.dumps(vars(LeaseOwner("other", "b", 8, "")))

    def write() -> None:
        hosts.store.client.set_experiment_tag(hosts.experiment, Tag.LEASE, other)

    hosts.clock.events.append((hosts.clock.time + 0.1, write))
    lease, began = hosts.make_lease("a"), hosts.clock.time
    lease.claim()
    assert hosts.clock.time == began  # claim() does not wait if there is no lease
    with pytest.raises(StudyBusy, match="process 8 on host b"):
        lease.check()
    lease.release()
    assert json.loads(hosts.tag)["token"] == "other"


def test_claim_pause_begins_after_a_slow_write(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver whose claim took 3 s to write still sees a claim that comes 0.4 s later."""
    set_tag, clock = hosts.store.client.set_experiment_tag, hosts.clock

    def set_tag_slowly(*args: Any) -> None:
        set_tag(*args)
        clock.time += 3

    lease, other = hosts.make_lease("a"), hosts.make_lease("b")
    monkeypatch.setattr(hosts.store.client, "set_experiment_tag", set_tag_slowly)
    lease.claim()
    monkeypatch.undo()
    clock.events.append((clock.time + 0.4, other._write))
    with pytest.raises(StudyBusy, match="process 7 on host b"):
        lease.check()


OUTAGES = load_cases(__file__, "outages.yaml")


@pytest.mark.parametrize("case", OUTAGES, ids=lambda case: case["id"])
def test_outage_does_not_count_towards_expiry(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, case: dict[str, Any]
) -> None:
    """A waiting driver has to see no heartbeat for a full expiry after the outage."""
    first, clock, second = hosts.claim_lease("a"), hosts.clock, hosts.make_lease("b")
    start, (outage_start, outage_end) = clock.time, case["away"]

    def read(client: Any, experiment: str) -> LeaseOwner | None:
        if outage_start <= clock.time - start < outage_end:
            if not case.get("hangs"):
                raise ConnectionError("no route to host")
            clock.time = start + outage_end
        return read_owner(client, experiment)

    monkeypatch.setattr("harness.store.lease.read_owner", read)
    for seconds in case.get("beats", []):
        clock.events.append((start + seconds, first.beat))
    errors = {"busy": StudyBusy, "unreadable": ConnectionError}
    if case["ends"] == "takes over":
        second.claim()
    else:
        with pytest.raises(errors[case["ends"]]):
            second.claim()
    assert case["waited"] <= clock.time - start < case["waited"] + 3
    owner = read_owner(hosts.store.client, hosts.experiment)
    assert owner is not None
    assert owner.host == ("b" if case["ends"] == "takes over" else "a")


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"token": 1}', "5"])
def test_unparsable_lease_is_waited_for_like_any_other(hosts: Hosts, text: str) -> None:
    """A later version may have written it."""
    hosts.store.client.set_experiment_tag(hosts.experiment, Tag.LEASE, text)
    began = hosts.clock.time
    hosts.claim_lease("a")
    assert hosts.clock.time - began >= 60
    assert "no heartbeat from another driver" in hosts.lines[-1]


def test_fresh_lease_is_not_read_before_a_write(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is read only if the last beat is too old."""
    lease = hosts.claim_lease("a")
    read = Mock(return_value=lease.me)
    monkeypatch.setattr("harness.store.lease.read_owner", read)
    lease.check()
    assert read.call_count == 0
    hosts.clock.time += 31
    lease.check()
    lease.check()
    assert read.call_count == 1
    assert json.loads(hosts.tag)["n_writes"] == 3


@pytest.mark.parametrize("released", [False, True])
def test_suspended_driver_writes_nothing_after_takeover(hosts: Hosts, released: bool) -> None:
    """Its first write is refused, even if the second driver has released the lease."""
    first = hosts.claim_lease("a")
    client = fence_client(hosts.store.client, first)
    run = client.create_run(hosts.experiment)
    second = hosts.claim_lease("b")  # waits for a minute
    if released:
        second.release()
    with pytest.raises(StudyLost, match="by another driver" if released else "host b"):
        client.set_tag(run.info.run_id, "late", "1")
    with pytest.raises(StudyLost):
        client.log_batch(run.info.run_id, metrics=[], params=[], tags=[])
    assert "late" not in client.get_run(run.info.run_id).data.tags


def test_heartbeats_survive_a_store_outage(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats continue after the outage, and the loss of the lease is reported once."""
    lease = hosts.claim_lease("a")
    lease.timing = Timing(beat_interval=0.01, now=hosts.clock.now)
    lost, losses, beats = threading.Event(), list[StudyLost](), list[int]()
    new_owner = LeaseOwner("x", "b", 8, "")
    results = iter(["outage"] * 3 + ["ok"] * 3 + ["outage", "takeover"])

    def read(client: Any, experiment: str) -> LeaseOwner | None:
        result = next(results, "ok")
        if result == "outage":
            raise ConnectionError("no route to host")
        if result == "takeover":
            beats.append(json.loads(hosts.tag)["n_writes"])
            client.set_experiment_tag(experiment, Tag.LEASE, json.dumps(vars(new_owner)))
        return read_owner(client, experiment)

    monkeypatch.setattr("harness.store.lease.read_owner", read)
    lease.start(lambda loss: (losses.append(loss), lost.set()))
    assert lost.wait(10) and beats == [2 + 3]
    lease.release()
    assert len(losses) == 1
    assert json.loads(hosts.tag)["token"] == "x"


def test_failure_after_a_signal_is_not_a_second_signal() -> None:
    """The failure interrupts waits and is raised, and the study ends in order."""
    with pytest.raises(StudyLost), Interrupts() as interrupts:
        interrupts.requested = True
        interrupts.fail(StudyLost("lost"))
        threading.Event().wait(10)
