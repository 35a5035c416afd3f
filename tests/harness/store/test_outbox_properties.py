"""Any writes, any failures, any crashes: the store is as if nothing had happened."""

import itertools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.store.batches import log, set_state
from harness.store.datasets import Dataset
from harness.store.outbox.calls import Sender
from harness.store.outbox.client import Outbox
from harness.store.outbox.journal import Drivers, Head, Journal
from reports.contract import State
from tests.harness.flaky import URI, Crash, FakeStore, FlakyClient

FATES = ["ok", "ok", "before", "after", "crash before", "crash after"]
# what a driver does next: write, or give the courier a turn; numbers choose among the runs
steps = st.lists(
    st.tuples(
        st.sampled_from(["create", "points", "tag", "untag", "state", "reads", "turn", "turn"]),
        st.integers(0, 3),
    ),
    max_size=30,
)
fates = st.lists(st.sampled_from(FATES), max_size=60)
# a write that is added while another waits dies at every third; which of its rows are there then
tears = st.lists(st.integers(0, 200), min_size=1, max_size=10)


class Recorded(Journal):
    """A journal that keeps what its file was before each write that was added."""

    def __init__(self, path: Path, head: Head, drivers: Drivers) -> None:
        super().__init__(path, head, drivers)
        self.states: list[bytes] = []

    def append(self, call: str, arguments: Mapping[str, Any]) -> None:
        self.states.append(self.path.read_bytes() if self.path.exists() else b"")
        super().append(call, arguments)


class Driver:
    """A study's driver that dies and comes back with what it knew; its store does not."""

    def __init__(self, folder: Path, fates: list[str], tears: list[int]) -> None:
        self.store = FakeStore()
        self.client = FlakyClient(self.store, iter(fates))
        self.path = folder / "queue.sqlite3"
        self.tears = itertools.cycle(tears)
        self.runs: list[str] = []
        self.tick = 0
        self.begin()

    def begin(self) -> None:
        """A process starts."""
        self.queue = Recorded(self.path, Head("uri", "small", "7"), Drivers())
        sender = Sender(self.client, "7", self.queue.runs)  # type: ignore[arg-type]
        self.box = Outbox(URI, sender, self.queue, str, background=False)

    def turn(self) -> None:
        """The outbox tries to send a write; the process may die meanwhile, and another begins."""
        try:
            self.box.deliver()
        except Crash:
            self.begin()

    def write(self, kind: str, choice: int) -> None:
        """Write something, or die in the middle of adding it to the queue, and write it again."""
        self.tick += 1
        known, waited = len(self.runs), self.box.waiting
        self.queue.states.clear()
        # a crash while a run is made that does not wait leaves it open, for close_dead_runs
        self.client.mortal = False
        self.act(kind, choice)
        self.client.mortal = True
        states = self.queue.states
        if waited and states and next(self.tears) % 3 == 0:
            del self.runs[known:]
            self.path.write_bytes(states[next(self.tears) % len(states)])
            self.begin()
            self.act(kind, choice)

    def act(self, kind: str, choice: int) -> None:
        """Make a write of a kind; a run first, where there is none."""
        box, tick = self.box, self.tick
        if kind == "create" or not self.runs:
            self.runs.append(box.create_run("7", f"{len(self.runs):03}", {"k": "v"}))
            return
        run = self.runs[choice % len(self.runs)]
        values = {f"m{i}": float(tick) for i in range(choice)}
        state = list(State)[choice]
        found: dict[str, Callable[[], Any]] = {
            "points": lambda: log(box, run, metrics=values, step=tick, params={f"p{tick}": tick}),
            "tag": lambda: log(box, run, tags={"k": str(tick)}),
            "untag": lambda: box.delete_tag(run, "k"),
            "reads": lambda: box.log_datasets(run, [Dataset(f"d{tick}", "digest", "test")]),
            "state": lambda: set_state(box, run, state, {"why": str(tick)}),
        }
        found[kind]()

    def finish(self) -> list[tuple[Any, ...]]:
        """The store when everything is sent."""
        self.client.fates = iter(())
        while self.box.waiting:
            self.box.deliver()
        return self.store.plain()


def drive(
    steps: list[tuple[str, int]], fates: list[str], tears: list[int]
) -> list[tuple[Any, ...]]:
    """The store after a driver's steps."""
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(Path(folder), fates, tears)
        for kind, choice in steps:
            if kind == "turn":
                driver.turn()
            else:
                driver.write(kind, choice)
        assert not driver.finish() or driver.runs
        driver.begin()
        assert not driver.box.waiting
        return driver.store.plain()


@given(steps, fates, tears)
def test_failures_and_crashes_change_nothing(
    steps: list[tuple[str, int]], fates: list[str], tears: list[int]
) -> None:
    """No run, point or tag is lost, doubled or out of order."""
    assert drive(steps, fates, tears) == drive(steps, [], [0])
