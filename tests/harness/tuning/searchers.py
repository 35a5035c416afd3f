"""Searchers of small studies, and the trials that Optuna knows."""

from collections.abc import Callable
from typing import Any

from optuna.trial import FixedTrial, FrozenTrial
from ray.tune.search import Searcher

from harness.config.space import suggest
from harness.config.study_config import StudyConfig
from harness.messages import FINAL
from harness.planning.configurations import ConfigurationMaker
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Work, make_plan
from harness.store import name_seed_metric
from harness.store.history import RunHistory
from harness.tuning.searcher import StudySearcher
from ship.trial_config import TrialConfig
from tests.harness.fakes import truth

Score = Callable[[TrialConfig, int], float]
KL = {"generator.kl_weight": [0.001 * n for n in range(1, 9)]}
RANGE = {"generator.kl_weight": {"low": 1e-4, "high": 1.0, "log": True}}
EMPTY = RunHistory()


def optuna_trials(searcher: StudySearcher) -> list[FrozenTrial]:
    """Return the trials that Optuna knows."""
    assert searcher.sampler is not None
    return searcher.sampler.optuna_study.get_trials(deepcopy=False)


def values_of(study: StudyConfig, trial: FrozenTrial) -> dict[str, Any]:
    """Return the values of the study's factors that an Optuna trial stands for."""
    return suggest(FixedTrial(trial.params), study)


def works(study: StudyConfig, prints: Fingerprints) -> list[Work]:
    """Return the work of a study without any runs."""
    return list(make_plan(study, EMPTY, prints).work)


def searcher_of(
    study: StudyConfig, prints: Fingerprints, history: RunHistory = EMPTY
) -> StudySearcher:
    """Return the searcher of a run with a history, without a limit of concurrent trials."""
    maker = ConfigurationMaker(study, prints)
    plan = make_plan(study, history, prints)
    room = study.max_concurrent_trials or 10_000
    return StudySearcher(study, plan, history, maker, lambda: room)


def done(searcher: StudySearcher, trial_id: str, score: Score = truth) -> dict[str, Any]:
    """Return the last result of a successful trial."""
    work = searcher.attempts[trial_id].work
    keys = {seed: name_seed_metric(seed, "selection/harmonic_mean") for seed in work.seeds}
    numbers = {key: score(work.configuration.trial, seed) for seed, key in keys.items()}
    return {FINAL: [{"metrics": numbers}]}


def drive(searcher: StudySearcher, most: int = 100, score: Score = truth) -> list[Work]:
    """Run all trials, one after the other."""
    ran = []
    for number in map(str, range(most)):
        if searcher.suggest(number) == Searcher.FINISHED:
            return ran
        searcher.on_trial_complete(number, done(searcher, number, score))
        ran.append(searcher.attempts[number].work)
    raise AssertionError("the searcher does not end")
