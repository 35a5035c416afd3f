"""The plan: wanted minus done, without Ray or MLflow, in steps that grow with the settings.

They are counted, not timed: a square of the settings would take more than twice as many.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import harness.planning
import harness.store
from harness.config.study_config import StudyConfig
from harness.planning.changes import TableChanges, compare
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan, make_plan
from harness.planning.settings import Setting, SettingMaker
from harness.store import Failure, State
from harness.store.history import RunHistory, RunRecord
from harness.store.study_record import Configuration, Factor, StudyRecord
from tests.harness.fakes import make_study
from tests.harness.planning.made import run_of, settings_of
from tests.told import told


def setting_of(study: StudyConfig, prints: Fingerprints, case: dict[str, Any]) -> Setting:
    """The setting that a case is about."""
    return SettingMaker(study, prints)(case["at"])


def run_told(study: dict[str, Any], prints: Fingerprints, case: dict[str, Any]) -> RunRecord:
    """A run of the study as it is, or as it was."""
    setting = setting_of(make_study(**{**study, **case.get("was", {})}), prints, case)
    keys: dict[str, Any] = {"state": State(case.get("state", State.COMPLETE))}
    if "failed" in case:
        keys = {"state": State.FAIL, "failure": Failure(case["failed"]), "reason": "why"}
    if keys["state"] is not State.COMPLETE:
        keys["objective"] = {}
    return run_of(setting, tuple(case.get("seeds", (0, 1))), **keys)


def rows_told(plan: Plan) -> list[tuple[str, str]]:
    """The rows of a plan in words, with what is told of the work on each."""
    rows = []
    for row in plan.rows:
        words = " ".join([row.state, *map(str, row.seeds)])
        if row.seeds:
            words += " ".join([" after", *map(str, row.done)]) if row.done else ""
            words += "" if row.may_stop else " whole"
        rows.append((row.label, f"{words}: {row.reason}" if row.reason else words))
    return rows


@pytest.mark.parametrize("case", told(__file__, "plans.yaml"), ids=lambda case: case["case"])
def test_a_plan_is_what_is_wanted_minus_what_is_done(
    prints: Fingerprints, case: dict[str, Any]
) -> None:
    """Its rows in order, and how many settings a sampler still proposes."""
    study = make_study(**case["study"])
    ledger = RunHistory(tuple(run_told(case["study"], prints, run) for run in case.get("runs", [])))
    plan = make_plan(study, ledger, prints, retry_before=1 if "retry" in case else 0)
    assert rows_told(plan) == list(case.get("rows", {}).items())
    assert plan.proposals == case.get("proposals", 0)
    assert [arm.arm for arm in plan.equal_arms] == case.get("equal_arms", [])


def test_labels_are_short_and_unambiguous(prints: Fingerprints) -> None:
    """The last part of a name, or the whole where two factors end alike."""
    space = {"generator.lr": [0.1], "finetuner.lr": [0.2], "shots": [1]}
    (setting,) = settings_of(make_study(space=space), prints)
    assert setting.label == "generator.lr=0.1, finetuner.lr=0.2, shots=1"
    level = {"generator.kl_weight": 0.018700774249525893, "finetuner": "coop"}
    assert replace(setting, assignment=level).label == "kl_weight=0.0187, finetuner=coop"


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


def planning(
    settings: int, shots: int, prints: Fingerprints
) -> Callable[[], tuple[Plan, TableChanges]]:
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
    configurations = tuple(Configuration(one.key, {}, one.arm) for one in every)
    stored = StudyRecord((Factor(key, tuple(levels)),), configurations, tuple(SEEDS))

    def work() -> tuple[Plan, TableChanges]:
        ledger = RunHistory(runs)
        plan = make_plan(study, ledger, prints)
        changes = compare(SettingMaker(study, prints), plan, ledger, stored)
        return plan, changes

    return work


@pytest.mark.parametrize(("shots", "changed"), [(16, 0), (4, 200)])
def test_twice_the_settings_take_twice_the_steps(
    prints: Fingerprints, shots: int, changed: int
) -> None:
    """Plan and comparison ask their questions of an index, never of all rows in turn."""
    few, many = planning(50, shots, prints), planning(100, shots, prints)
    plan, changes = many()
    assert (len(plan.rows), len(changes.changed)) == (100, changed)
    assert steps(many) / steps(few) < 2.1
