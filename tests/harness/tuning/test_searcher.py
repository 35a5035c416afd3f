"""The searcher and successive halving, called by the tests instead of Tune."""

import math
from statistics import mean
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from harness.messages import EVALUATIONS, LAST_VALUE
from harness.planning.configurations import ConfigurationMaker
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Work, make_plan
from harness.store import Failure, State
from harness.store.history import RunHistory, RunRecord
from harness.tuning.retries import Attempt
from harness.tuning.tune_run import StudyScheduler
from ship.trial_config import TrialConfig
from tests.harness.fakes import compute_result, make_study
from tests.harness.planning.builders import build_record
from tests.harness.tuning.searchers import (
    KL,
    RANGE,
    list_optuna_trials,
    make_result,
    make_searcher,
    make_work,
    read_values,
    run_trials,
)


def test_max_concurrent_trials_limits_suggestions(prints: Fingerprints) -> None:
    """If the searcher suggests None, Tune calls it again later."""
    searcher = make_searcher(make_study(max_concurrent_trials=2), prints)
    assert isinstance(searcher.suggest("a"), dict)
    assert isinstance(searcher.suggest("b"), dict)
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", make_result(searcher, "a"))
    assert isinstance(searcher.suggest("c"), dict)
    searcher.on_trial_complete("b", make_result(searcher, "b"))
    assert searcher.suggest("d") is None  # "c" may still have to be retried
    searcher.on_trial_complete("c", make_result(searcher, "c"))
    assert searcher.suggest("d") == Searcher.FINISHED


def test_trials_are_suggested_while_slots_are_free(prints: Fingerprints) -> None:
    """A slot becomes free when a trial ends or a node joins the cluster."""
    n_slots = 1
    study = make_study(space=KL, max_concurrent_trials=None)
    searcher = make_searcher(study, prints)
    searcher.max_concurrent = lambda: n_slots
    assert [searcher.suggest(name) is None for name in "ab"] == [False, True]
    searcher.on_trial_complete("a", make_result(searcher, "a"))
    assert [searcher.suggest(name) is None for name in "bc"] == [False, True]
    n_slots = 2
    assert [searcher.suggest(name) is None for name in "cd"] == [False, True]


def test_starting_worker_is_not_replaced_by_an_idle_one(prints: Fingerprints) -> None:
    """By default, Tune chooses the first trial that is not running."""
    study = make_study(space=KL)
    assert StudyScheduler(study, make_searcher(study, prints)).choose_trial_to_run(Mock()) is None


def test_only_complete_trials_have_values_in_optuna(prints: Fingerprints) -> None:
    """Stopped trials are PRUNED; trials that fail, die or have a non-finite objective are FAIL."""
    study = make_study(space=RANGE, sampler="tpe", n_trials=6, max_concurrent_trials=6, seeds=1)
    searcher = make_searcher(study, prints)
    for name in "abcdef":
        searcher.suggest(name)
    searcher.on_trial_complete("a", make_result(searcher, "a"))
    searcher.attempts["b"].stop_reason = "stopped by asha"
    searcher.on_trial_complete("b", {"selection_objective": 60.0})
    searcher.on_trial_complete("c", {"failed": [{"failure": "non_finite", "reason": "nan"}]})
    searcher.on_trial_complete("d", error=True)
    searcher.suggest("d again")
    searcher.on_trial_complete("d again", error=True)
    searcher.on_trial_complete("e", None)
    searcher.suggest("e again")
    searcher.on_trial_complete("e again", None)
    nan = float("nan")
    final = {"final": [{"metrics": {"selection/harmonic_mean/seed_0": nan}}]}
    searcher.on_trial_complete("f", final)
    trials = list_optuna_trials(searcher)
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        *[TrialState.FAIL] * 4,
    ]
    assert [trial.value is None for trial in trials] == [False, *[True] * 5]
    assert searcher.suggest("g") == Searcher.FINISHED


def test_each_configuration_is_reported_to_optuna_once(prints: Fingerprints) -> None:
    """Finished ones are reported at the start, the others when all of their seeds have ended."""
    study = make_study(
        space=RANGE,
        sampler="tpe",
        n_trials=6,
        scheduler="asha",
        seeds=[0, 1, 2],
        max_concurrent_trials=1,
    )
    make = ConfigurationMaker(study, prints)
    good, pruned, bad, lame, less, more = (
        make({"generator.kl_weight": value / 10}) for value in range(1, 7)
    )
    failed = {"state": State.FAIL, "failure": Failure.NON_FINITE, "objective": {}}
    history = RunHistory(
        (
            build_record(good, (0, 1, 2, 7)),
            build_record(pruned, (0, 1, 2), state=State.PRUNED, objective={}),
            build_record(bad, (0, 1, 2), **failed),
            build_record(lame, (0, 1)),
            build_record(lame, (2,), **failed),
            build_record(less, (0,)),
            build_record(less, (1,), **failed),
            build_record(more, (0, 1), objective={0: 10.0, 1: 20.0}),
        )
    )
    searcher = make_searcher(study, prints, history)
    reported = [(trial.state, trial.value) for trial in list_optuna_trials(searcher)]
    fail, running = (TrialState.FAIL, None), (TrialState.RUNNING, None)
    average = (TrialState.COMPLETE, pytest.approx(51.0))
    other_average = (TrialState.COMPLETE, pytest.approx(50.5))
    assert reported == [
        average,
        (TrialState.PRUNED, None),
        fail,
        other_average,
        running,
        running,
    ]
    ran = run_trials(searcher)
    assert [(work.configuration.key, work.seeds) for work in ran] == [
        (less.key, (2,)),
        (more.key, (2,)),
    ]
    assert not any(work.may_stop for work in ran)
    later = [(trial.state, trial.value) for trial in list_optuna_trials(searcher)[4:]]
    assert later == [
        (TrialState.COMPLETE, pytest.approx((50.0 + compute_result(less.trial, 2)) / 2)),
        (TrialState.COMPLETE, pytest.approx((30.0 + compute_result(more.trial, 2)) / 3)),
    ]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_resumed_search_repeats_no_configuration(prints: Fingerprints, sampler: str) -> None:
    """Two runs from the same history propose the same configurations."""
    study = make_study(space=RANGE, sampler=sampler, n_trials=4)
    first, second = (run_trials(make_searcher(study, prints)) for _ in range(2))
    assert [w.configuration.key for w in first] == [w.configuration.key for w in second]
    history = RunHistory(tuple(build_record(work.configuration, work.seeds) for work in first))
    longer = make_study(space=RANGE, sampler=sampler, n_trials=8)
    searcher = make_searcher(longer, prints, history)
    more = run_trials(searcher)
    assert len(list_optuna_trials(searcher)) == 8  # no finished configuration was proposed again
    assert len(more) == 4
    assert not {w.configuration.key for w in first} & {w.configuration.key for w in more}


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_sampler_learns_from_the_history(prints: Fingerprints, sampler: str) -> None:
    """After 30 configurations, proposals are closer to the optimum than random ones."""
    first = make_study(space=RANGE, sampler="random", n_trials=30, seeds=1)
    works = run_trials(make_searcher(first, prints))
    values = [compute_result(work.configuration.trial, 0) for work in works]
    pairs = zip(works, values, strict=True)
    runs = tuple(
        build_record(work.configuration, (0,), objective={0: value}) for work, value in pairs
    )
    study = make_study(space=RANGE, sampler=sampler, n_trials=35, seeds=1)
    more = run_trials(make_searcher(study, prints, RunHistory(runs)))
    assert mean(compute_result(work.configuration.trial, 0) for work in more) > mean(values) + 0.5


@pytest.mark.slow
def test_gp_proposes_the_same_with_and_without_a_restart(prints: Fingerprints) -> None:
    """It may be restarted before the first trial, during the random trials, and after them.

    Some configurations fail, and the sampler repeats some proposals.
    """
    space = {"generator.n_ctx": [1, 2, 4, 8, 16], "shots": [1, 2, 4, 8]}

    def score(config: TrialConfig, seed: int) -> float:
        return math.nan if config.shots == 2 else compute_result(config, seed) - config.shots

    study = make_study(space=space, sampler="gp", n_trials=18, seeds=1)
    ran = run_trials(make_searcher(study, prints), score=score)
    assert len({work.configuration.key for work in ran}) == len(ran) == 18
    runs = [_make_record(work, score(work.configuration.trial, 0)) for work in ran]
    for n_finished in (0, 5, 14, 16):
        more = run_trials(
            make_searcher(study, prints, RunHistory(tuple(runs[:n_finished]))), score=score
        )
        assert more == ran[n_finished:]


def _make_record(work: Work, value: float) -> RunRecord:
    """Return the run of a work with one seed. It has failed if the value is NaN."""
    if math.isnan(value):
        failed = {"state": State.FAIL, "failure": Failure.NON_FINITE, "objective": {}}
        return build_record(work.configuration, work.seeds, **failed)
    return build_record(work.configuration, work.seeds, objective={0: value})


def test_gp_leaves_a_region_of_failed_configurations(prints: Fingerprints) -> None:
    """Configurations near the optimum fail, and most later proposals are elsewhere."""

    def score(config: TrialConfig, seed: int) -> float:
        value = compute_result(config, seed)
        return math.nan if value > 53 else value

    study = make_study(space=RANGE, sampler="gp", n_trials=24, seeds=1)
    values = [
        score(work.configuration.trial, 0)
        for work in run_trials(make_searcher(study, prints), score=score)
    ]
    assert sum(map(math.isnan, values[-10:])) < 4


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
@pytest.mark.parametrize(
    ("space", "configurations"),
    [
        ({"generator.n_ctx": [1, 2, 4], "shots": [1, 2]}, 6),
        ({"generator.n_ctx": [1, 2, 3, 4, 5, 6, 7], "shots": [1, 2]}, 14),
        # In floating point, 7 * 0.1 is larger than 0.7.
        ({"generator.kl_weight": {"low": 0.0, "high": 0.7, "step": 0.1}}, 8),
    ],
)
def test_finite_space_is_exhausted_without_repeats(
    prints: Fingerprints, space: dict[str, Any], configurations: int, sampler: str
) -> None:
    """If the sampler repeats itself, the remaining configurations are taken from the grid."""
    study = make_study(space=space, sampler=sampler, n_trials=50, seeds=1)
    searcher = make_searcher(study, prints)
    ran = run_trials(searcher)
    assert len(ran) == len({work.configuration.key for work in ran}) == configurations
    reported, make = list_optuna_trials(searcher), ConfigurationMaker(study, prints)
    assert len(reported) > configurations
    is_tpe = sampler == "tpe"
    reported = [trial for trial in reported if is_tpe or trial.state is TrialState.COMPLETE]
    results = [compute_result(make(read_values(study, trial)).trial, 0) for trial in reported]
    assert [trial.value for trial in reported] == results
    history = RunHistory(tuple(build_record(work.configuration, work.seeds) for work in ran))
    assert make_plan(study, history, prints).finished


def test_tpe_models_conditional_factors_together(prints: Fingerprints) -> None:
    """Without TPE's option `group`, Optuna would sample a factor with `when` independently."""
    space = {
        "generator": ["vae", "none"],
        "generator.n_ctx": {"choices": [1, 2, 4, 8], "when": {"generator": "vae"}},
        "generator.kl_weight": {**RANGE["generator.kl_weight"], "when": {"generator": "vae"}},
        "shots": [1, 2, 4],
    }
    study = make_study(space=space, sampler="tpe", n_trials=30, seeds=1)
    searcher = make_searcher(study, prints)
    run_trials(searcher)
    assert searcher.sampler is not None
    optuna_study = searcher.sampler.optuna_study
    trial = list_optuna_trials(searcher)[-1]
    modeled = optuna_study.sampler.infer_relative_search_space(optuna_study, trial)
    assert modeled.keys() == space.keys()


class TrialRunner:
    """Trials by name, and successive halving with a reduction factor of 2."""

    def __init__(self, works_by_name: dict[str, Work]) -> None:
        self.attempts = {name: Attempt(work) for name, work in works_by_name.items()}
        searcher: Any = SimpleNamespace(attempts=self.attempts)
        asha = {"name": "asha", "reduction_factor": 2}
        self._halving: Any = StudyScheduler(make_study(scheduler=asha), searcher)
        self._added: set[str] = set()

    def report(self, name: str, number: int, value: float) -> str:
        """Report an evaluation in Tune's order of calls, and return the scheduler's decision."""
        trial, result = SimpleNamespace(trial_id=name), {EVALUATIONS: number, LAST_VALUE: value}
        if name not in self._added:
            self._added.add(name)
            self._halving.on_trial_add(None, trial)
        decision: str = self._halving.on_trial_result(None, trial, result)
        if decision == TrialScheduler.STOP:
            self._halving.on_trial_complete(None, trial, result)
        return decision


@pytest.fixture
def works_of_study(prints: Fingerprints) -> list[Work]:
    """Return the eight works of a study."""
    return make_work(make_study(space=KL), prints)


def test_asha_stops_a_bad_trial(works_of_study: list[Work]) -> None:
    """It decides at each rung separately. The reason has the evaluation and the value."""
    trials = TrialRunner(dict(zip("abcd", works_of_study, strict=False)))
    assert trials.report("a", 1, 60.0) == TrialScheduler.CONTINUE
    assert trials.report("b", 1, 10.0) == TrialScheduler.STOP
    assert trials.report("c", 1, 70.0) == TrialScheduler.CONTINUE
    assert trials.report("a", 2, 90.0) == TrialScheduler.CONTINUE
    assert trials.report("c", 2, 20.0) == TrialScheduler.STOP
    assert {name: attempt.stop_reason for name, attempt in trials.attempts.items()} == {
        "a": None,
        "b": "stopped by asha at evaluation 1: harmonic_mean 10.00",
        "c": "stopped by asha at evaluation 2: harmonic_mean 20.00",
        "d": None,
    }


def test_value_of_a_stopped_trial_counts_once(works_of_study: list[Work]) -> None:
    """Tune reports it again at the trial's end. Counted twice, it would lower the rung's cutoff."""
    trials = TrialRunner(dict(zip("abc", works_of_study, strict=False)))
    assert trials.report("a", 1, 60.0) == TrialScheduler.CONTINUE
    assert trials.report("b", 1, 10.0) == TrialScheduler.STOP
    assert trials.report("c", 1, 30.0) == TrialScheduler.STOP  # below the median of 60 and 10


def test_retried_configuration_is_not_judged_twice(works_of_study: list[Work]) -> None:
    """Once it has passed a rung, values that were reported later do not stop it there."""
    first, *other_works = works_of_study
    trials = TrialRunner(
        {"a": first, "c": first, **dict(zip("0123456", other_works, strict=False))}
    )
    assert trials.report("a", 1, 60.0) == TrialScheduler.CONTINUE
    for name, value in (("0", 70.0), ("1", 80.0), ("2", 90.0)):
        assert trials.report(name, 1, value) == TrialScheduler.CONTINUE
    assert trials.report("3", 1, 60.0) == TrialScheduler.STOP
    assert trials.report("c", 1, 60.0) == TrialScheduler.CONTINUE
