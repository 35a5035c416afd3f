"""Optuna's ask and tell: proposes settings, by what has become of others."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from harness.config import StudyConfig, distributions, suggest
from harness.planning import Setting, contains
from reports.contract import State


@dataclass(frozen=True)
class Outcome:
    """What became of a setting.

    state: how it ended.
    value: the mean of its objective over the study's seeds; None unless COMPLETE.
    """

    state: State
    value: float | None = None


def outcome_of(state: State, values: Mapping[int, float], seeds: Sequence[int]) -> Outcome:
    """A setting's outcome: COMPLETE alone has a value, and FAIL where a seed has no finite one.

    A mean over fewer seeds is another quantity, and the seeds that failed are not missing at
    random. A sampler that took such a mean for the setting's value would be led to settings that
    fail.

    Args:
        state: how the setting ended.
        values: objective of each finished seed.
        seeds: that the study asks for; a mean leaves out others.
    """
    if state is not State.COMPLETE:
        return Outcome(state)
    value = fmean([values.get(seed, math.nan) for seed in seeds])
    return Outcome(state, value) if math.isfinite(value) else Outcome(State.FAIL)


class Sampler:
    """Optuna's part of a tpe or random study, in memory, rebuilt from the ledger at every start.

    Seeded by the study's sampler_seed and the number of known settings, so that a study that is
    continued draws new proposals. Optuna is told of pruned and failed settings without a value.

    optuna_study: Optuna's own, with all trials that it knows of.
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
        self.optuna_study = _optuna_study(study.sampler, int(seed[0]))
        self._distributions = distributions(study)
        for setting, outcome in known:
            self.tell(setting, outcome)

    def ask(self) -> tuple[optuna.Trial, Setting]:
        """Propose a setting; returns Optuna's trial, which tell() needs, and the setting."""
        trial = self.optuna_study.ask()
        return trial, self._make(suggest(trial, self._study))

    def tell(self, proposed: optuna.Trial | Setting, outcome: Outcome) -> None:
        """Tell Optuna what became of a proposal, or of a setting that it did not propose here.

        A setting with a value outside the study's space is passed over.

        Args:
            proposed: Optuna's trial, as ask() returned it, or a setting.
        """
        state = TrialState[outcome.state.name]
        if isinstance(proposed, optuna.Trial):
            self.optuna_study.tell(proposed, outcome.value, state=state)
            return
        params = dict(proposed.assignment)
        domain = {name: self._distributions[name] for name in params}
        if all(contains(domain[name], value) for name, value in params.items()):
            self.optuna_study.add_trial(
                optuna.trial.create_trial(
                    state=state, value=outcome.value, params=params, distributions=domain
                )
            )


def _optuna_study(sampler: str, seed: int) -> optuna.Study:
    """A study of Optuna's in memory, to be maximized; its creation is not logged.

    Args:
        sampler: tpe or random.
    """
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Optuna 4 warns that constant_liar is experimental; Optuna 5 has kept it
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made: optuna.samplers.BaseSampler = (
                # trials that still run count as bad, so that parallel proposals differ
                optuna.samplers.TPESampler(seed=seed, constant_liar=True)
                if sampler == "tpe"
                else optuna.samplers.RandomSampler(seed=seed)
            )
            return optuna.create_study(direction="maximize", sampler=made)
    finally:
        optuna.logging.set_verbosity(before)
