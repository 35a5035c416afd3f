"""Planning grows with the number of settings, not with its square: steps are counted, not timed."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import harness.planning
import harness.store
from harness.planning.changes import Changes, compare
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan, make_plan, outcome_of
from harness.planning.settings import SettingMaker
from harness.store.ledger import Ledger
from harness.store.study_run import StoredSetting, StoredStudy
from reports.contract import Failure, State
from tests.harness.fakes import make_study
from tests.harness.planning.made import run_of, settings_of

COUNTED = tuple(
    str(Path(package.__file__ or "").parent) for package in (harness.planning, harness.store)
)
SEEDS = (0, 1, 2, 3)


def steps(work: Callable[[], object]) -> int:
    """Bytecodes that planning and the ledger execute: a scan of rows cannot hide from them."""
    counted = 0

    def inside(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal counted
        counted += event == "opcode"
        return inside

    def entered(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(COUNTED):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return inside

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        work()
    finally:
        sys.settrace(before)
    return counted


def planning(settings: int, shots: int, prints: Fingerprints) -> Callable[[], tuple[Plan, Changes]]:
    """All that is asked of a ledger, as a call: a run a setting, every second one failed."""
    key, levels = "generator.kl_weight", [(n + 1) / 1000 for n in range(settings)]
    before, study = (
        make_study(space={key: levels}, seeds=list(SEEDS), shots=n) for n in (16, shots)
    )
    every = settings_of(before, prints)
    failed = {"state": State.FAIL, "failure": Failure.ERROR, "reason": "why", "objective": {}}
    runs = tuple(
        run_of(one, SEEDS[: 3 if place % 2 else 4], **(failed if place % 2 else {}))
        for place, one in enumerate(every)
    )
    held = {one.key: [StoredSetting(one.assignment, one.arm)] for one in every}
    stored = StoredStudy(held, dict.fromkeys(held, frozenset(SEEDS)), {key: levels})

    def work() -> tuple[Plan, Changes]:
        ledger = Ledger(runs)
        plan = make_plan(study, ledger, prints)
        changes = compare(study, plan, ledger, stored, SettingMaker(study, prints))
        outcome_of(plan, "small", "sqlite://", interrupted=False, ran=False)
        return plan, changes

    return work


@pytest.mark.parametrize(("shots", "changed"), [(16, 0), (4, 200)])
def test_twice_the_settings_take_twice_the_steps(
    prints: Fingerprints, shots: int, changed: int
) -> None:
    """Plan, comparison and outcome ask their questions of an index, never of all rows in turn."""
    few, many = planning(50, shots, prints), planning(100, shots, prints)
    plan, changes = many()
    assert (len(plan.rows), len(changes.changed)) == (100, changed)
    assert steps(many) / steps(few) < 2.1
