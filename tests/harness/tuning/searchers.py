"""Build searchers of small studies, run their trials, and list the trials that Optuna knows."""

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
from tests.harness.fakes import compute_result

Score = Callable[[TrialConfig, int], float]
KL = {"generator.kl_weight": [0.001 * n for n in range(1, 9)]}
RANGE = {"generator.kl_weight": {"low": 1e-4, "high": 1.0, "log": True}}
EMPTY = RunHistory()


def list_optuna_trials(searcher: StudySearcher) -> list[FrozenTrial]:
    """Return the trials that Optuna knows."""
    assert searcher.sampler is not None
    return searcher.sampler.optuna_study.get_trials(deepcopy=False)


def read_values(study: StudyConfig, trial: FrozenTrial) -> dict[str, Any]:
    """Return the values of the study's factors in an Optuna trial."""
    return suggest(FixedTrial(trial.params), study)


def make_work(study: StudyConfig, prints: Fingerprints) -> list[Work]:
    """Return the work that is left of a study without runs."""
    return list(make_plan(study, EMPTY, prints).work)


def make_searcher(
    study: StudyConfig, prints: Fingerprints, history: RunHistory = EMPTY
) -> StudySearcher:
    """Return the searcher of a run with a history, without a limit of concurrent trials."""
    maker = ConfigurationMaker(study, prints)
    plan = make_plan(study, history, prints)
    room = study.max_concurrent_trials or 10_000
    return StudySearcher(study, plan, history, maker, lambda: room)


def make_result(
    searcher: StudySearcher, trial_id: str, score: Score = compute_result
) -> dict[str, Any]:
    """Return the last result of a trial that succeeds."""
    work = searcher.attempts[trial_id].work
    keys = {seed: name_seed_metric(seed, "selection/harmonic_mean") for seed in work.seeds}
    numbers = {key: score(work.configuration.trial, seed) for seed, key in keys.items()}
    return {FINAL: [{"metrics": numbers}]}


def run_trials(
    searcher: StudySearcher, max_trials: int = 100, score: Score = compute_result
) -> list[Work]:
    """Run all trials, one after the other, and return their work."""
    works: list[Work] = []
    for number in map(str, range(max_trials)):
        if searcher.suggest(number) == Searcher.FINISHED:
            return works
        searcher.on_trial_complete(number, make_result(searcher, number, score))
        works.append(searcher.attempts[number].work)
    raise AssertionError("the searcher does not finish")
