"""Optuna's part of a study: it proposes settings, and is told what became of them."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from harness.config import StudyConfig, distributions, suggest
from harness.planning import Setting, contains
from harness.store import Ledger
from reports.contract import State

OPTUNA_STATE = {
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    State.FAIL: TrialState.FAIL,
}


@dataclass(frozen=True)
class Outcome:
    """What became of a setting.

    state: how it ended.
    value: the mean of its objective over the study's seeds; None unless COMPLETE.
    """

    state: State
    value: float | None = None


def outcome_of(ledger: Ledger, key: str, seeds: Sequence[int]) -> Outcome | None:
    """A setting's outcome as the ledger has it; None where none of its seeds has ended.

    Args:
        ledger: of the study.
        key: the setting's key.
        seeds: the seeds that the study asks for; a mean leaves out others that the ledger has.
    """
    state = ledger.state(key)
    if state is not State.COMPLETE:
        return Outcome(state) if state else None
    return over_seeds(ledger.objectives(key), seeds)


def over_seeds(values: Mapping[int, float], seeds: Sequence[int]) -> Outcome:
    """COMPLETE with the mean over all of `seeds`; FAIL where a seed has no finite value.

    A mean over fewer seeds is another quantity, and the seeds that failed are not missing at
    random. A sampler that took such a mean for the setting's value would be led to settings that
    fail.

    Args:
        values: objective of each finished seed.
        seeds: the seeds that the study asks for.
    """
    asked = [values.get(seed, math.nan) for seed in seeds]
    mean = math.fsum(asked) / len(asked) if asked else math.nan
    return Outcome(State.COMPLETE, mean) if math.isfinite(mean) else Outcome(State.FAIL)


class Sampler:
    """Optuna's part of a tpe or random study, in memory, rebuilt from the ledger at every start.

    Seeded by the study's sampler_seed and the number of known settings, so that a study that is
    continued draws new proposals. Optuna is told of pruned and failed settings without a value.
    """

    def __init__(
        self,
        study: StudyConfig,
        known: Sequence[tuple[Setting, Outcome]],
        make: Callable[[Mapping[str, Any]], Setting],
    ) -> None:
        """Rebuild Optuna's study.

        Args:
            study: the study, whose sampler is tpe or random.
            known: the settings that have ended, with their outcomes.
            make: resolves an assignment (dotted name -> value) to its setting.
        """
        self._study = study
        self._make = make
        seed = np.random.SeedSequence([study.sampler_seed, len(known)]).generate_state(1)
        self._optuna = quiet_study(_SAMPLERS[study.sampler](int(seed[0])))
        self._distributions = distributions(study)
        for setting, outcome in known:
            self.add(setting, outcome)

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All trials that Optuna knows of, in its own form."""
        return self._optuna.get_trials(deepcopy=False)

    def add(self, setting: Setting, outcome: Outcome) -> None:
        """Tell Optuna of a setting that it did not propose in this process.

        A setting with a value outside the study's space is passed over.
        """
        domain = {name: self._distributions[name] for name in setting.assignment}
        if not all(contains(domain[name], value) for name, value in setting.assignment.items()):
            return
        self._optuna.add_trial(
            optuna.trial.create_trial(
                state=OPTUNA_STATE[outcome.state],
                value=outcome.value,
                params=dict(setting.assignment),
                distributions=domain,
            )
        )

    def ask(self) -> tuple[optuna.Trial, Setting]:
        """Propose a setting; returns Optuna's trial, which tell() needs, and the setting."""
        trial = self._optuna.ask()
        return trial, self._make(suggest(trial, self._study))

    def tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        """Tell Optuna what became of a proposal; trial: as ask() returned it."""
        self._optuna.tell(trial, outcome.value, state=OPTUNA_STATE[outcome.state])


def _tpe(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        # Optuna 4 warns that constant_liar is experimental; Optuna 5 has kept it
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # constant_liar: trials that still run count as bad, so that parallel proposals differ
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


_SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": _tpe,
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def quiet_study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """A study of Optuna's in memory, to be maximized; its creation is not logged."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize", sampler=sampler)
    finally:
        optuna.logging.set_verbosity(before)
