"""Optuna's part of a study: proposes settings, and is told what became of them."""

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
from harness.store import Ledger, State

OPTUNA_STATE = {
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    State.FAIL: TrialState.FAIL,
}


@dataclass(frozen=True)
class Outcome:
    """What became of a setting: a state, and for COMPLETE alone a value."""

    state: State
    value: float | None = None


def outcome_of(ledger: Ledger, key: str, seeds: Sequence[int]) -> Outcome | None:
    """A setting's outcome as the ledger has it, None if the ledger knows nothing of the setting.

    Args:
        ledger: of the study.
        key: of the setting.
        seeds: over which the objective is averaged, as far as they are finished.
    """
    state = ledger.state(key)
    if state is not State.COMPLETE:
        return Outcome(state) if state else None
    values = [value for seed, value in ledger.objectives(key).items() if seed in seeds]
    return Outcome(state, math.fsum(values) / len(values)) if values else Outcome(State.FAIL)


class Sampler:
    """Optuna's part of a tpe or random study, in memory, rebuilt from the ledger at every start.

    Seeded by (sampler_seed, settings known), so that a study that goes on draws new proposals.
    Pruned and failed settings are told without a value.
    """

    def __init__(
        self,
        study: StudyConfig,
        known: Sequence[tuple[Setting, Outcome]],
        make: Callable[[Mapping[str, Any]], Setting],
    ) -> None:
        self._study = study
        self._make = make
        seed = np.random.SeedSequence([study.sampler_seed, len(known)]).generate_state(1)
        self._optuna = quiet_study(_SAMPLERS[study.sampler](int(seed[0])))
        self._domain = distributions(study)
        for setting, outcome in known:
            self.add(setting, outcome)

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """What Optuna knows."""
        return self._optuna.get_trials(deepcopy=False)

    def add(self, setting: Setting, outcome: Outcome) -> None:
        """Tell Optuna of a setting that it did not propose in this process."""
        domain = {name: self._domain[name] for name in setting.assignment}
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
        """A proposal."""
        trial = self._optuna.ask()
        return trial, self._make(suggest(trial, self._study))

    def tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        """What became of a proposal."""
        self._optuna.tell(trial, outcome.value, state=OPTUNA_STATE[outcome.state])


def _tpe(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        # Optuna 4 calls constant_liar an experiment; Optuna 5 has kept it
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # constant_liar: trials that still run count as bad, so that parallel proposals spread
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


_SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": _tpe,
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def quiet_study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """An in-memory study that says nothing."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize", sampler=sampler)
    finally:
        optuna.logging.set_verbosity(before)
