"""Searchers over small studies, and what Optuna has heard from them."""

from typing import Any

from harness.config.study_config import StudyConfig
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Work, make_plan
from harness.planning.settings import SettingMaker, enumerate_settings
from harness.store.ledger import Ledger
from harness.tuning.searcher import StudySearcher
from harness.worker.results import FINAL
from tests.harness.fakes import truth


def optuna_trials(searcher: StudySearcher) -> list[Any]:
    """What Optuna knows."""
    assert searcher.sampler is not None
    return searcher.sampler.trials


KL = {"generator.kl_weight": [0.001, 0.01, 0.1, 1.0]}


RANGE = {"generator.kl_weight": {"low": 1e-4, "high": 1.0, "log": True}}


def works(study: StudyConfig, prints: Fingerprints) -> list[Work]:
    """What an empty ledger leaves to run."""
    return list(make_plan(study, Ledger(), prints).work)


def searcher_of(study: StudyConfig, prints: Fingerprints, **keys: Any) -> StudySearcher:
    """The searcher of a first run."""
    make = SettingMaker(study, prints)
    plan = make_plan(study, Ledger(), prints)
    spare = enumerate_settings(study, make)
    return StudySearcher(study, plan, Ledger(), make, spare, **keys)


def done(searcher: StudySearcher, trial_id: str) -> dict[str, Any]:
    """The last result of a trial that went well."""
    work = searcher.work(trial_id)
    values = [truth(work.setting.config, seed) for seed in work.seeds]
    return {FINAL: [{"objective": 0.0, "selection": {"harmonic_mean": values}}]}
