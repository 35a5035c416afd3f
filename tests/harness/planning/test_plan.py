"""The plan: requested minus finished work, without Ray or MLflow, in linear time.

Steps are counted, not timed: quadratic time would take more than twice as many.
"""

from dataclasses import replace
from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from harness.planning.configurations import Configuration, ConfigurationMaker
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan, make_plan
from harness.store import Failure, State
from harness.store.history import RunHistory, RunRecord
from tests.case_files import load_cases
from tests.harness.fakes import make_study
from tests.harness.planning.builders import build_record, list_configurations


def setting_of(study: StudyConfig, prints: Fingerprints, case: dict[str, Any]) -> Configuration:
    """The setting that a case is about."""
    return ConfigurationMaker(study, prints)(case["at"])


def run_told(study: dict[str, Any], prints: Fingerprints, case: dict[str, Any]) -> RunRecord:
    """A run of the study as it is, or as it was."""
    configuration = setting_of(make_study(**{**study, **case.get("was", {})}), prints, case)
    keys: dict[str, Any] = {"state": State(case.get("state", State.COMPLETE))}
    if "failed" in case:
        keys = {"state": State.FAIL, "failure": Failure(case["failed"]), "reason": "why"}
    if keys["state"] is not State.COMPLETE:
        keys["objective"] = {}
    return build_record(configuration, tuple(case.get("seeds", (0, 1))), **keys)


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


@pytest.mark.parametrize("case", load_cases(__file__, "plans.yaml"), ids=lambda case: case["case"])
def test_a_plan_is_the_requested_work_without_the_finished_work(
    prints: Fingerprints, case: dict[str, Any]
) -> None:
    """It has the rows in order, and the number of configurations still to be proposed."""
    study = make_study(**case["study"])
    history = RunHistory(
        tuple(run_told(case["study"], prints, run) for run in case.get("runs", []))
    )
    plan = make_plan(study, history, prints, retry_before=1 if "retry" in case else 0)
    assert rows_told(plan) == list(case.get("rows", {}).items())
    assert plan.n_proposals == case.get("proposals", 0)
    assert [control.control for control in plan.duplicate_controls] == case.get(
        "duplicate_controls", []
    )


def test_labels_are_short_and_unambiguous(prints: Fingerprints) -> None:
    """A label is the last part of a name, or all of it if two factors end alike."""
    space = {"generator.lr": [0.1], "finetuner.lr": [0.2], "shots": [1]}
    (configuration,) = list_configurations(make_study(space=space), prints)
    assert configuration.label == "generator.lr=0.1, finetuner.lr=0.2, shots=1"
    level = {"generator.kl_weight": 0.018700774249525893, "finetuner": "coop"}
    assert replace(configuration, assignment=level).label == "kl_weight=0.0187, finetuner=coop"
