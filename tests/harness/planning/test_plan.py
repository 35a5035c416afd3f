"""The plan: wanted minus done, without Ray or MLflow."""

from dataclasses import replace
from typing import Any

import pytest

from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import make_plan
from harness.planning.settings import SettingMaker
from harness.store.ledger import Ledger
from reports.contract import Failure, State
from tests.harness.fakes import make_study
from tests.harness.planning.made import run_of, settings_of


def test_an_empty_ledger_leaves_everything_to_run(prints: Fingerprints) -> None:
    """Reference arms come first, then the grid in order; there is no estimate yet."""
    plan = make_plan(make_study(reference_arms=True), Ledger(), prints)
    assert [row.label for row in plan.rows][-3:] == ["n_ctx=1", "n_ctx=2", "n_ctx=4"]
    assert [work.setting.arm for work in plan.work][:4] == [
        "zero_shot",
        "no_synthetic",
        "text_feature",
        "real_pictures",
    ]
    assert [work.judged for work in plan.work] == [False] * 4 + [True] * 3
    assert all(row.state == "to run" and row.seeds == (0, 1) for row in plan.rows)
    assert plan.seconds is None
    assert not plan.finished


def test_a_setting_with_seeds_of_its_own_is_done_with_these(prints: Fingerprints) -> None:
    """Another setting still wants the study's, and one that has fewer of its own is incomplete."""
    study = make_study(seeds=3)
    one, two, three = settings_of(study, prints)
    own = {one.key: (0, 1), three.key: (0, 1)}
    ledger = Ledger((run_of(one, (0, 1)), run_of(two, (0, 1)), run_of(three, (0,))))
    plan = make_plan(study.model_copy(update={"own_seeds": own}), ledger, prints)
    assert [(work.setting.key, work.seeds) for work in plan.work] == [
        (two.key, (2,)), (three.key, (1,)),
    ]  # fmt: skip
    assert [row.state for row in plan.rows] == ["done", "to run", "to run"]


def test_only_missing_seeds_are_left(prints: Fingerprints) -> None:
    """The estimate is the mean cost of a seed times what is missing."""
    study = make_study(seeds=3)
    one, two, three = settings_of(study, prints)
    ledger = Ledger((run_of(one, (0, 1, 2)), run_of(two, (0, 1)), run_of(three, (0, 1, 2))))
    plan = make_plan(study, ledger, prints)
    (work,) = plan.work
    assert (work.setting.key, work.seeds, work.judged) == (two.key, (2,), False)
    assert [row.state for row in plan.rows] == ["done", "to run", "done"]
    assert plan.rows[1].done == (0, 1)
    assert plan.seconds == pytest.approx(30 / 8)


@pytest.mark.parametrize("failure", Failure)
def test_failures_are_tried_again_unless_deterministic(
    prints: Fingerprints, failure: Failure
) -> None:
    """A loss that was not finite would only be so again."""
    again = failure is not Failure.NON_FINITE
    study = make_study(space={"generator.n_ctx": [1]})
    (one,) = settings_of(study, prints)
    failed = run_of(one, (0, 1), state=State.FAIL, failure=failure, reason="why", objective={})
    plan = make_plan(study, Ledger((failed,)), prints)
    assert plan.finished is not again
    assert (plan.rows[0].state, plan.rows[0].reason) == ("to run" if again else "failed", "why")


def test_pruned_settings_are_settled_while_there_is_a_scheduler(prints: Fingerprints) -> None:
    """Without one, the study wants them whole."""
    study = make_study(space={"generator.n_ctx": [1]}, scheduler="asha")
    (one,) = settings_of(study, prints)
    ledger = Ledger((run_of(one, (0, 1), state=State.PRUNED, objective={}),))
    assert make_plan(study, ledger, prints).finished
    assert make_plan(study, ledger, prints).rows[0].state == "pruned"
    whole = make_study(space={"generator.n_ctx": [1]})
    assert not make_plan(whole, ledger, prints).finished


def test_an_arm_that_equals_a_setting_has_no_run_of_its_own(prints: Fingerprints) -> None:
    """It is kept as a twin, for the table."""
    study = make_study(space={"generator": ["none", "vae"]}, reference_arms=True)
    plan = make_plan(study, Ledger(), prints)
    assert [twin.arm for twin in plan.twins] == ["no_synthetic"]
    assert plan.twins[0].key in {setting.key for setting in plan.settings if not setting.arm}
    assert len({setting.key for setting in plan.settings}) == len(plan.settings)


def test_earlier_proposals_of_a_sampler_count_if_they_fit(prints: Fingerprints) -> None:
    """Those with another key, or outside the space, are not the study's.

    Those that failed count, otherwise a space of failures would never end.
    """
    space = {"generator.kl_weight": {"low": 1e-3, "high": 1.0, "log": True}}
    study = make_study(space=space, sampler="tpe", trials=5)
    make = SettingMaker(study, prints)
    inside, outside, failed = (make({"generator.kl_weight": value}) for value in (0.1, 1e-4, 0.2))
    other = SettingMaker(make_study(space=space, sampler="tpe", trials=5, shots=4), prints)
    changed = other({"generator.kl_weight": 0.2})
    why = {"state": State.FAIL, "failure": Failure.NON_FINITE, "objective": {}}
    runs = [run_of(s, (0, 1)) for s in (inside, outside, changed)]
    plan = make_plan(study, Ledger((*runs, run_of(failed, (0, 1), **why))), prints)
    assert [setting.key for setting in plan.settings] == [inside.key, failed.key]
    assert (plan.proposals, len(plan.work)) == (3, 0)


@pytest.mark.parametrize(
    ("space", "settings"),
    [
        ({"generator.n_ctx": [1, 2, 4]}, 3),
        ({"generator.n_ctx": {"low": 1, "high": 4}}, 4),
        ({"generator.n_ctx": {"low": 1, "high": 4, "step": 3}}, 2),
        ({"generator.n_ctx": {"low": 1, "high": 29}}, 20),
        ({"generator.kl_weight": {"low": 0.1, "high": 1.0}}, 20),
    ],
)
def test_trials_are_no_more_than_the_space_has(
    prints: Fingerprints, space: dict[str, Any], settings: int
) -> None:
    """A small finite space ends a random study before trials: 20."""
    study = make_study(space=space, sampler="random", trials=20)
    assert make_plan(study, Ledger(), prints).proposals == settings


def test_labels_are_short_and_unambiguous(prints: Fingerprints) -> None:
    """The last part of a name, or the whole where two factors end alike."""
    space = {"generator.lr": [0.1], "finetuner.lr": [0.2], "shots": [1]}
    (setting,) = settings_of(make_study(space=space), prints)
    assert setting.label == "generator.lr=0.1, finetuner.lr=0.2, shots=1"
    level = {"generator.kl_weight": 0.018700774249525893, "finetuner": "coop"}
    assert replace(setting, assignment=level).label == "kl_weight=0.0187, finetuner=coop"
