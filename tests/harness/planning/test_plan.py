"""The plan of a study, which has the requested configurations and seeds that are not finished."""

from dataclasses import replace
from typing import Any

import pytest

from harness.planning.configurations import ConfigurationMaker
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan, make_plan
from harness.store import Failure, State
from harness.store.history import RunHistory, RunRecord
from tests.case_files import load_cases
from tests.harness.fakes import make_study
from tests.harness.planning.builders import build_record, list_configurations


def make_record(
    study_keys: dict[str, Any], prints: Fingerprints, case: dict[str, Any]
) -> RunRecord:
    """Return the record of a run in plans.yaml."""
    study = make_study(**{**study_keys, **case.get("was", {})})
    configuration = ConfigurationMaker(study, prints)(case["at"])
    keys: dict[str, Any] = {"state": State(case.get("state", State.COMPLETE))}
    if "failed" in case:
        keys = {"state": State.FAIL, "failure": Failure(case["failed"]), "reason": "why"}
    if keys["state"] is not State.COMPLETE:
        keys["objective"] = {}
    return build_record(configuration, tuple(case.get("seeds", (0, 1))), **keys)


def describe_rows(plan: Plan) -> list[tuple[str, str]]:
    """Return the label and the description of each row, as in plans.yaml."""
    rows = []
    for row in plan.rows:
        words = [row.state, *map(str, row.seeds)]
        if row.seeds and row.done:
            words += ["after", *map(str, row.done)]
        if row.seeds and not row.may_stop:
            words.append("whole")
        description = " ".join(words)
        rows.append((row.label, f"{description}: {row.reason}" if row.reason else description))
    return rows


@pytest.mark.parametrize("case", load_cases(__file__, "plans.yaml"), ids=lambda case: case["case"])
def test_a_plan_is_the_requested_work_without_the_finished_work(
    prints: Fingerprints, case: dict[str, Any]
) -> None:
    """The rows are in order, and the number of configurations still to be proposed is known."""
    study = make_study(**case["study"])
    runs = tuple(make_record(case["study"], prints, run) for run in case.get("runs", []))
    retry_before = 1 if "retry" in case else 0
    plan = make_plan(study, RunHistory(runs), prints, retry_before=retry_before)
    assert describe_rows(plan) == list(case.get("rows", {}).items())
    assert plan.n_proposals == case.get("proposals", 0)
    duplicates = [control.control for control in plan.duplicate_controls]
    assert duplicates == case.get("duplicate_controls", [])


def test_labels_are_short_and_unambiguous(prints: Fingerprints) -> None:
    """A label has the last part of a factor's name, or the whole name if two last parts are equal.

    Numbers are rounded.
    """
    space = {"generator.lr": [0.1], "finetuner.lr": [0.2], "shots": [1]}
    (configuration,) = list_configurations(make_study(space=space), prints)
    assert configuration.label == "generator.lr=0.1, finetuner.lr=0.2, shots=1"
    assignment = {"generator.kl_weight": 0.018700774249525893, "finetuner": "coop"}
    assert replace(configuration, assignment=assignment).label == "kl_weight=0.0187, finetuner=coop"
