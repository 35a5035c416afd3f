"""Propose configurations with Optuna's ask-and-tell interface.

Optuna's study is kept in memory. It is rebuilt from the run history whenever a driver starts.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from harness.config import StudyConfig, belongs, make_optuna_params, suggest
from harness.machine import silence_loggers
from harness.planning import Configuration
from harness.store import State

# proposals of known configurations in a row after which the sampler counts as exhausted
MAX_REPEATS = 50
# repeats after which a gp study draws at random: a Gaussian process that is sure of its optimum
# proposes it again and again
MAX_GP_REPEATS = 3

# Final state of a configuration, and the mean of its objective over seeds (None unless COMPLETE).
Outcome = tuple[State, float | None]


class Sampler:
    """Sampler of a tpe or random study.

    Its seed depends on the study's sampler_seed and on the number of ended configurations, so that
    a resumed study draws new proposals. Pruned and failed configurations are reported to Optuna
    without a value.

    Attributes:
        optuna_study: Optuna's study in memory.
    """

    def __init__(
        self,
        study: StudyConfig,
        outcomes: Sequence[tuple[Configuration, Outcome]],
        make: Callable[[Mapping[str, Any]], Configuration],
    ) -> None:
        """Create Optuna's study, with the configurations that have ended.

        Args:
            study: Study whose sampler is not grid.
            outcomes: Configurations that have ended, with their outcomes.
            make: Function that resolves an assignment (dotted name -> value) to its configuration.
        """
        self._study = study
        self._make = make
        with silence_loggers("optuna"):
            self.optuna_study = optuna.create_study(
                direction="maximize", sampler=_optuna_sampler(study, study.sampler, len(outcomes))
            )
        for configuration, outcome in outcomes:
            self.tell(configuration, outcome)

    def propose(
        self, is_new: Callable[[Configuration], bool], outcomes: Mapping[str, Outcome]
    ) -> tuple[optuna.Trial, Configuration] | None:
        """Propose a new configuration. Proposals of known ones are answered with their outcomes.

        Args:
            is_new: Function that returns True if a configuration has not been run or queued.
            outcomes: Outcomes of the configurations that have ended, by key.

        Returns:
            Optuna's trial, which `tell` needs, and the configuration. None if MAX_REPEATS proposals
            were known already.
        """
        for _ in range(MAX_REPEATS):
            trial, configuration = self._ask()
            if is_new(configuration):
                return trial, configuration
            self.tell(trial, outcomes.get(configuration.key, (State.FAIL, None)))
        return None

    def start(self, configuration: Configuration) -> optuna.Trial | None:
        """Add a running configuration that this sampler has not proposed, e.g. an interrupted one.

        Returns:
            Optuna's trial, which `tell` needs. None if a value is outside the study's space.
        """
        if not belongs(self._study, configuration.assignment):
            return None
        self.optuna_study.enqueue_trial(make_optuna_params(self._study, configuration.assignment))
        trial = self.optuna_study.ask()
        suggest(trial, self._study)
        return trial

    def tell(self, proposed: optuna.Trial | Configuration, outcome: Outcome) -> None:
        """Report an outcome to Optuna.

        A configuration with a value outside the study's space is ignored.

        Args:
            proposed: Optuna's trial as returned by `propose` or `start`, or a configuration.
            outcome: Outcome of the configuration.
        """
        state, value = TrialState[outcome[0].name], outcome[1]
        if isinstance(proposed, optuna.Trial):
            self.optuna_study.tell(proposed, value, state=state)
            return
        if belongs(self._study, proposed.assignment):
            trial = optuna.trial.FixedTrial(make_optuna_params(self._study, proposed.assignment))
            suggest(trial, self._study)
            self.optuna_study.add_trial(
                optuna.trial.create_trial(
                    state=state, value=value, params=trial.params, distributions=trial.distributions
                )
            )

    def _ask(self) -> tuple[optuna.Trial, Configuration]:
        trial = self.optuna_study.ask()
        return trial, self._make(suggest(trial, self._study))


class GaussianProcessSampler(Sampler):
    """Sampler of a gp study.

    A proposal depends only on the study's sampler_seed and on the configurations before it. A study
    that runs one trial at a time therefore proposes the same with and without interruptions.

    Optuna's Gaussian process ignores trials without a value, and would propose neighbors of a
    failing configuration again and again. Such a trial is therefore reported with the lowest value
    so far.
    """

    _n_repeats = 0  # trials of Optuna's study that repeated known configurations

    def propose(
        self, is_new: Callable[[Configuration], bool], outcomes: Mapping[str, Outcome]
    ) -> tuple[optuna.Trial, Configuration] | None:
        """Propose a new configuration. See `Sampler.propose`.

        Repeats end without a value and are not counted, because a resumed study does not have them.
        """
        n_known = len(self.optuna_study.get_trials(deepcopy=False)) - self._n_repeats
        repeats: list[optuna.Trial] = []
        proposal = None
        while proposal is None and len(repeats) < MAX_REPEATS:
            kind = "gp" if len(repeats) < MAX_GP_REPEATS else "random"
            sampler = _optuna_sampler(self._study, kind, n_known, len(repeats))
            self.optuna_study.sampler = sampler
            with silence_loggers("optuna"):  # GPSampler warns that it is slow without greenlet
                trial, configuration = self._ask()
            if is_new(configuration):
                proposal = trial, configuration
            else:
                repeats.append(trial)  # it stays "running", so that the next proposal differs
        for trial in repeats:
            self.optuna_study.tell(trial, state=TrialState.FAIL)
        self._n_repeats += len(repeats)
        return proposal

    def tell(self, proposed: optuna.Trial | Configuration, outcome: Outcome) -> None:
        """Report an outcome to Optuna. A missing value is substituted. See `Sampler.tell`."""
        if outcome[1] is None:
            trials = self.optuna_study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            values = [trial.value for trial in trials if trial.value is not None]
            outcome = (State.COMPLETE, min(values)) if values else outcome
        super().tell(proposed, outcome)


def make_sampler(
    study: StudyConfig,
    outcomes: Sequence[tuple[Configuration, Outcome]],
    make: Callable[[Mapping[str, Any]], Configuration],
) -> Sampler | None:
    """Return the sampler of a study, or None for a grid. The arguments are those of `Sampler`."""
    if study.sampler == "grid":
        return None
    return (GaussianProcessSampler if study.sampler == "gp" else Sampler)(study, outcomes, make)


def _optuna_sampler(study: StudyConfig, kind: str, *position: int) -> optuna.samplers.BaseSampler:
    """Create Optuna's sampler of a study.

    Args:
        study: Study whose sampler is not grid.
        kind: "tpe", "gp" or "random".
        position: Numbers that the sampler's seed depends on, in addition to sampler_seed.
    """
    seed = int(np.random.SeedSequence([study.sampler_seed, *position]).generate_state(1)[0])
    with warnings.catch_warnings():
        # group is experimental in Optuna 5; multivariate, constant_liar and GPSampler in Optuna 4
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if kind == "gp":
            return optuna.samplers.GPSampler(seed=seed)
        if kind == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(
            seed=seed,
            multivariate=True,
            # without groups, factors with `when` would be sampled independently of the others
            group=any(factor.when for factor in study.space.values()),
            # running trials count as bad, so that parallel proposals differ
            constant_liar=True,
        )
