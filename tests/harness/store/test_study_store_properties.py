"""Any writes, any failures, any crashes: the store is as if nothing had happened."""

import itertools
import math
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.store import State
from harness.store.changes import Changes, Point
from harness.store.errors import StoreError
from harness.store.study_store import Pending, StudyStore
from tests.harness.flaky import URI, Crash, FakeStore, FlakyClient

FATES = ["ok", "ok", "before", "after", "crash before", "crash after"]
# what a driver does next: write, or give what waits a turn; numbers choose among the runs
steps = st.lists(
    st.tuples(
        st.sampled_from(["create", "points", "tag", "state", "turn", "turn"]),
        st.integers(0, 3),
    ),
    max_size=30,
)
fates = st.lists(st.sampled_from(FATES), max_size=60)
# a write that is added while another waits dies at every third; which of its rows are there then
tears = st.lists(st.integers(0, 200), min_size=1, max_size=10)


class Recorded(Pending):
    """Keeps what its file was before each write that was added."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.states: list[bytes] = []

    def append(self, changes: Changes) -> None:
        self.states.append(self.path.read_bytes() if self.path.exists() else b"")
        super().append(changes)


class Driver:
    """A study's driver that dies and comes back with what it knew; its store does not."""

    def __init__(self, folder: Path, fates: list[str], tears: list[int]) -> None:
        self.store = FakeStore()
        self.client: Any = FlakyClient(self.store, iter(fates))
        self.path = folder / "queue.jsonl"
        self.tears = itertools.cycle(tears)
        self.runs: list[str] = []
        self.tick = 0
        self.begin()

    def begin(self) -> None:
        """A process starts."""
        self.queue = Recorded(self.path)
        self.box = StudyStore(URI, self.client, "7", self.queue, str)
        self.box._next_try = math.inf  # turns alone send what waits

    def turn(self) -> None:
        """The store tries to send what waits; the process may die meanwhile, and another begins."""
        try:
            self.box.send_waiting()
        except StoreError:
            pass
        except Crash:
            self.begin()

    def write(self, kind: str, choice: int) -> None:
        """Write something, or die in the middle of adding it to the queue, and write it again."""
        self.tick += 1
        known, waited = len(self.runs), bool(self.queue.waiting)
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
        tick = self.tick
        if kind == "create" or not self.runs:
            name = f"{len(self.runs) + 1:03}"
            begun = Changes.of_new_run("7", name, tags={"k": "v"})
            self.runs.append(begun.run)
            self.box.write(begun)
            return
        points = [Point(f"m{i}", float(tick), 0, tick) for i in range(choice)]
        found: dict[str, dict[str, Any]] = {
            "points": {"metrics": points, "params": {f"p{tick}": str(tick)}},
            "tag": {"tags": {"k": str(tick)}},
            "state": {"tags": {"why": str(tick)}, "state": list(State)[choice]},
        }
        self.box.write(Changes(run=self.runs[choice % len(self.runs)], **found[kind]))

    def finish(self) -> list[tuple[Any, ...]]:
        """The store when everything is sent."""
        self.client.fates = iter(())
        self.box.send_waiting()
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
        assert not driver.queue.waiting
        return driver.store.plain()


@given(steps, fates, tears)
def test_failures_and_crashes_change_nothing(
    steps: list[tuple[str, int]], fates: list[str], tears: list[int]
) -> None:
    """No run, point or tag is lost, doubled or out of order."""
    assert drive(steps, fates, tears) == drive(steps, [], [0])
