"""Fused settings without Ray: how they are grouped, judged, told apart, and given out again."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from harness.config.choices import AshaScheduler
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Work, make_plan
from harness.planning.settings import SettingMaker
from harness.store.ledger import Ledger
from harness.tuning.asha import Halving
from harness.tuning.fusion import (
    Ending,
    PrunedSettings,
    endings,
    endings_by_death,
    fuse,
    groups_to_rerun,
)
from harness.tuning.fusion_policy import CPU_REPLICAS, fuse_policy
from harness.tuning.places import Places
from harness.tuning.searcher import StudySearcher
from harness.tuning.worker_deaths import Deaths
from harness.worker.results import EVALUATIONS, FAILED, FINAL, OBJECTIVE
from reports.contract import Failure, State
from ship.metrics import NonFiniteLoss
from tests.harness.fakes import make_study, truth
from tests.harness.tuning.searchers import KL, RANGE, done, optuna_trials, searcher_of, works
from tests.harness.worker.workers import CONFIG, analytic, finish, items, make_worker

MANY = {"generator.kl_weight": [0.001 * n for n in range(1, 9)]}


def no_deaths() -> Deaths:
    """Of no cluster."""
    return Deaths(frozenset)


def labels(groups: list[Any]) -> list[list[str]]:
    """The settings of groups, by name."""
    return [[work.setting.label for work in group] for group in groups]


def test_what_has_one_shape_is_grouped_evenly(prints: Fingerprints) -> None:
    """Groups stand where their first work stood; other shapes and other seeds stay apart."""
    study = make_study(space={"generator.n_ctx": [1, 2], "generator.kl_weight": [0.1, 0.2, 0.3]})
    found = works(study, prints)
    assert labels(fuse(found, lambda work, n: 2)) == [
        ["n_ctx=1, kl_weight=0.1", "n_ctx=1, kl_weight=0.2"],
        ["n_ctx=1, kl_weight=0.3"],
        ["n_ctx=2, kl_weight=0.1", "n_ctx=2, kl_weight=0.2"],
        ["n_ctx=2, kl_weight=0.3"],
    ]
    assert [len(group) for group in fuse(found, lambda work, n: n)] == [3, 3]
    fewer = Work(found[1].setting, (1,))
    assert [len(group) for group in fuse([found[0], fewer], lambda work, n: n)] == [1, 1]


@pytest.mark.parametrize(
    ("fuse_key", "seeds", "n_alike", "slots", "expected"),
    [
        ("off", 1, 9, 1, 1),
        (3, 1, 9, 8, 3),
        (16, 1, 4, 1, 4),
        ("auto", 1, 100, 1, CPU_REPLICAS),
        ("auto", 2, 100, 1, CPU_REPLICAS // 2),
        ("auto", 1, 4, 2, 2),
        ("auto", 1, 4, 8, 1),
        ("auto", CPU_REPLICAS + 1, 100, 1, 1),
    ],
)
def test_auto_fuses_what_pays_and_leaves_no_worker_idle(
    prints: Fingerprints, fuse_key: Any, seeds: int, n_alike: int, slots: int, expected: int
) -> None:
    """A number is taken at its word."""
    study = make_study(space=KL, seeds=seeds, fuse=fuse_key)
    assert fuse_policy(study, slots)(works(study, prints)[0], n_alike) == expected


def test_auto_leaves_trials_that_may_be_stopped_alone(prints: Fingerprints) -> None:
    """A stopped setting would free nothing while those beside it go on."""
    study = make_study(space=KL, seeds=1, scheduler="asha")
    assert fuse_policy(study, 1)(works(study, prints)[0], 4) == 1


def test_a_worker_gives_each_setting_its_own_numbers(tmp_path: Path) -> None:
    """Values, means and evaluations by setting; the cost is shared out."""
    other = CONFIG.model_copy(
        update={"generator": CONFIG.generator.model_copy(update={"kl_weight": 0.1})}
    )
    results = finish(make_worker(analytic(tmp_path), configs=[CONFIG, other]))
    finals = results[-1][FINAL]
    for final, config in zip(finals, (CONFIG, other), strict=True):
        expected = [truth(config, 0), truth(config, 1)]
        assert final["test"]["new"] == final["selection"]["joint_new"] == pytest.approx(expected)
        assert final["objective"] == pytest.approx(sum(expected) / 2)
        assert final["selection_epoch"] == [3, 3]
        assert (final["fused"], final["cost/text_tokens"]) == (2, 50)
    assert finals[0]["objective"] != finals[1]["objective"]
    assert finals[0]["cost/seconds"] == finals[1]["cost/seconds"]
    assert results[2][OBJECTIVE] == pytest.approx([final["objective"] for final in finals])
    json.dumps(results)


def test_the_setting_that_is_not_finite_is_named(tmp_path: Path) -> None:
    """Its seeds too; the others are not to blame."""
    nan = float("nan")
    worker = make_worker(items({"loss": (1.0, 1.0, 1.0, nan)}), configs=[CONFIG, CONFIG])
    innocent, guilty = finish(worker)[-1][FAILED]
    assert innocent["failure"] is None and "trained beside" in innocent["reason"]
    assert guilty["failure"] == "non_finite"
    assert guilty["reason"] == "loss is not finite at stage selection, epoch 1 (seeds 1)"


def test_an_exception_of_several_is_nobodys(tmp_path: Path) -> None:
    """They run again in halves, until the fault is found."""

    def run_trial(*_: Any) -> Any:
        raise ValueError("no more")

    failed = finish(make_worker(run_trial, configs=[CONFIG] * 4))[-1][FAILED]
    assert [entry["failure"] for entry in failed] == [None] * 4
    ended = endings(4, {FAILED: failed}, set())
    assert {one.state for one in ended} == {State.INTERRUPTED}
    assert groups_to_rerun(ended) == [[0, 1], [2, 3]]
    assert groups_to_rerun(endings(4, {FAILED: failed}, {0, 3})) == [[1], [2]]


def test_a_dead_worker_blames_a_single_setting_alone() -> None:
    """Of several, nobody knows whose fault it was."""
    assert [one.state for one in endings_by_death(1, Failure.TIME_LIMIT, "late")] == [State.FAIL]
    late = endings_by_death(2, Failure.TIME_LIMIT, "late")
    assert [one.state for one in late] == [State.INTERRUPTED] * 2
    died = endings_by_death(1, Failure.WORKER_DIED, "died")
    assert [one.state for one in endings(1, {}, set(), died)] == [State.FAIL]
    blamed = Ending(State.FAIL, blamed=True)
    died = endings_by_death(3, Failure.WORKER_DIED, "died")
    assert groups_to_rerun([blamed, *endings(3, {}, {1}, died)]) == [[1, 3]]
    assert groups_to_rerun([Ending(State.COMPLETE), Ending(State.PRUNED)]) == []


def test_a_pruned_setting_can_be_to_blame(tmp_path: Path) -> None:
    """It is trained on beside the others; when it diverges they go on as they were."""
    nan = float("nan")
    worker = make_worker(items({"loss": (nan, 1.0, 1.0, 1.0, 1.0, 1.0)}), configs=[CONFIG] * 3)
    ended = endings(3, finish(worker)[-1], {0})
    assert [one.state for one in ended] == [State.PRUNED, *[State.INTERRUPTED] * 2]
    assert groups_to_rerun(ended) == [[1, 2]]


def test_a_setting_alone_cannot_be_innocent() -> None:
    """It would run again for ever."""

    def run_trial(*_: Any) -> Any:
        raise NonFiniteLoss("something is not finite", [])

    (failed,) = finish(make_worker(run_trial))[-1][FAILED]
    assert failed["failure"] == "non_finite"


def test_optuna_is_asked_for_several_at_once(prints: Fingerprints) -> None:
    """As many as are fused, and each is told its own outcome; trials count settings."""
    study = make_study(space=RANGE, sampler="random", trials=5, seeds=1)
    pruned = PrunedSettings()
    searcher = searcher_of(study, prints, 3, pruned=pruned)
    assert isinstance(searcher.suggest("a"), dict)
    assert len(searcher.group("a")) == 3
    pruned.add("a", 1, "why")
    searcher.on_trial_complete("a", done(searcher, "a"))
    assert isinstance(searcher.suggest("b"), dict)
    searcher.on_trial_complete("b", done(searcher, "b"))
    assert searcher.suggest("c") == Searcher.FINISHED
    groups = [*searcher.group("a"), *searcher.group("b")]
    assert len({work.setting.key for work in groups}) == 5
    trials = optuna_trials(searcher)
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        *[TrialState.COMPLETE] * 3,
    ]
    for trial, work in zip(trials, groups, strict=True):
        if trial.state is TrialState.COMPLETE:
            assert trial.value == pytest.approx(truth(work.setting.config, 0))


def test_tpe_is_asked_for_a_part_of_what_is_left(prints: Fingerprints) -> None:
    """So that its later draws know how the earlier ones did."""
    study = make_study(space=RANGE, sampler="tpe", trials=8, seeds=1)
    make = SettingMaker(study, prints)
    asked: list[int] = []

    def policy(work: Work, n_alike: int) -> int:
        asked.append(n_alike)
        return n_alike

    plan = make_plan(study, Ledger(), prints)
    searcher = StudySearcher(study, plan, Ledger(), make, (), policy)
    searcher.suggest("a")
    assert asked == [2] and len(searcher.group("a")) == 2


def test_proposals_of_other_shapes_are_not_fused(prints: Fingerprints) -> None:
    """They wait for a trial of their own, and none is lost."""
    study = make_study(sampler="random", trials=3, seeds=1, space={"generator.n_ctx": [1, 2, 4]})
    searcher = searcher_of(study, prints, 3)
    for number in range(3):
        assert isinstance(searcher.suggest(f"t{number}"), dict)
        searcher.on_trial_complete(f"t{number}", done(searcher, f"t{number}"))
    assert searcher.suggest("end") == Searcher.FINISHED
    assert all(len(searcher.group(f"t{number}")) == 1 for number in range(3))


def test_those_not_to_blame_run_again(prints: Fingerprints) -> None:
    """The searcher does not end while work may come back, and ends when all of it is done."""
    searcher = searcher_of(make_study(space=KL, concurrency=None), prints, 4)
    searcher.suggest("a")
    assert searcher.suggest("wait") is None
    guilty = {"failure": Failure.NON_FINITE, "reason": "nan"}
    searcher.on_trial_complete("a", {FAILED: [{"failure": None, "reason": ""}] * 3 + [guilty]})
    searcher.suggest("b")
    assert labels([searcher.group("b")]) == [["kl_weight=0.001", "kl_weight=0.01", "kl_weight=0.1"]]
    searcher.on_trial_complete("b", error=True)
    searcher.suggest("b again")
    assert searcher.group("b again") == searcher.group("b")
    searcher.on_trial_complete("b again", error=True)
    searcher.suggest("c"), searcher.suggest("d")
    assert labels([searcher.group("c"), searcher.group("d")]) == [
        ["kl_weight=0.001"],
        ["kl_weight=0.01", "kl_weight=0.1"],
    ]
    searcher.on_trial_complete("c", error=True)
    searcher.suggest("c again")
    searcher.on_trial_complete("c again", error=True)  # alone now, and so its own fault
    assert searcher.endings("c again")[0].state is State.FAIL
    searcher.on_trial_complete("d", done(searcher, "d"))
    assert searcher.suggest("e") == Searcher.FINISHED


def test_each_setting_is_halved_by_itself(prints: Fingerprints) -> None:
    """A Ray trial is stopped when all of its settings are; arms are never judged."""
    pruned = PrunedSettings()
    found = works(make_study(space=MANY), prints)
    groups = {"good": found[:2], "mixed": found[2:5], "late": found[5:7]}
    halving = Halving(
        AshaScheduler(reduction_factor=2),
        "harmonic_mean",
        lambda name: tuple(groups[name]),
        pruned,
        no_deaths(),
        Places(1),
    )
    good, mixed = SimpleNamespace(trial_id="good"), SimpleNamespace(trial_id="mixed")

    def report(trial: Any, number: int, *values: float | None) -> str:
        return halving.on_trial_result(None, trial, {EVALUATIONS: number, OBJECTIVE: values})

    assert report(good, 1, 50.0, 60.0) == TrialScheduler.CONTINUE
    assert report(mixed, 1, 70.0, 10.0, None) == TrialScheduler.CONTINUE
    assert (pruned.of("good"), pruned.of("mixed")) == (set(), {1})
    assert pruned.reason("mixed", 1) == "asha stopped it at evaluation 1: harmonic_mean 10.00"
    assert report(good, 2, 90.0, 90.0) == TrialScheduler.CONTINUE
    assert report(mixed, 2, 20.0, 99.0, None) == TrialScheduler.CONTINUE
    assert pruned.of("mixed") == {0, 1}  # the stopped one's 99 is not looked at
    late = SimpleNamespace(trial_id="late")
    assert report(late, 1, 5.0, 6.0) == TrialScheduler.STOP
    assert halving.on_trial_result(None, late, {}) == TrialScheduler.CONTINUE


def test_a_setting_that_runs_again_is_not_judged_twice(prints: Fingerprints) -> None:
    """It has passed its rung; those that came since are no reason to stop it there."""
    first, *others = works(make_study(space=MANY), prints)
    groups = {"a": [first], "c": [first], **{str(i): [one] for i, one in enumerate(others)}}
    halving = Halving(
        AshaScheduler(reduction_factor=2),
        "harmonic_mean",
        lambda name: tuple(groups[name]),
        PrunedSettings(),
        no_deaths(),
        Places(1),
    )

    def report(name: str, value: float) -> str:
        result = {EVALUATIONS: 1, OBJECTIVE: [value]}
        return halving.on_trial_result(None, SimpleNamespace(trial_id=name), result)

    assert report("a", 60.0) == TrialScheduler.CONTINUE
    for name, value in (("0", 70.0), ("1", 80.0), ("2", 90.0)):
        assert report(name, value) == TrialScheduler.CONTINUE
    assert report("3", 60.0) == TrialScheduler.STOP
    assert report("c", 60.0) == TrialScheduler.CONTINUE
