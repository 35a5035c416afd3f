"""Optuna's samplers by ask and tell: an Optuna study in memory that is rebuilt at every start."""

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

# repeated proposals of known configurations after which the sampler counts as exhausted
MAX_REPEATS = 50
# repeats after which a gp study draws at random: a process that is sure of its optimum repeats it
MAX_GP_REPEATS = 3

# Final state of a configuration, and the mean of its objective over seeds (None unless COMPLETE).
Outcome = tuple[State, float | None]


class Sampler:
    """Sampler of a tpe or random study.

    Its seed depends on the study's sampler_seed and on the number of known configurations, so that
    a resumed study draws new proposals. Pruned and failed configurations are reported to Optuna
    without a value.

    Attributes:
        optuna_study: Optuna's study, with all trials that it knows.
    """

    def __init__(
        self,
        study: StudyConfig,
        outcomes: Sequence[tuple[Configuration, Outcome]],
        make: Callable[[Mapping[str, Any]], Configuration],
    ) -> None:
        """Rebuild Optuna's study.

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
        """Propose a new configuration. Repeats of known ones are reported to Optuna.

        Args:
            is_new: Function that returns True if a configuration has not been run or queued.
            outcomes: Outcomes of the configurations that have ended, by key.

        Returns:
            Optuna's trial, which `tell` needs, and the configuration. None after MAX_REPEATS
            repeats.
        """
        for _ in range(MAX_REPEATS):
            trial, configuration = self._ask()
            if is_new(configuration):
                return trial, configuration
            self.tell(trial, outcomes.get(configuration.key, (State.FAIL, None)))
        return None

    def start(self, configuration: Configuration) -> optuna.Trial | None:
        """Add a configuration that runs without being proposed here, e.g. after an interruption.

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

    Optuna's process learns nothing from trials without a value, and would propose a failing
    configuration's neighbors again and again. Such a trial gets the lowest value before it.
    """

    _n_repeats = 0  # trials of Optuna's study that were no new configurations

    def propose(
        self, is_new: Callable[[Configuration], bool], outcomes: Mapping[str, Outcome]
    ) -> tuple[optuna.Trial, Configuration] | None:
        """Propose a new configuration. Repeats are forgotten, because a restart forgets them."""
        n_known = len(self.optuna_study.get_trials(deepcopy=False)) - self._n_repeats
        repeats: list[optuna.Trial] = []
        proposal = None
        while proposal is None and len(repeats) < MAX_REPEATS:
            kind = "gp" if len(repeats) < MAX_GP_REPEATS else "random"
            sampler = _optuna_sampler(self._study, kind, n_known, len(repeats))
            self.optuna_study.sampler = sampler
            with silence_loggers("optuna"):  # without greenlet its process warns that it is slower
                trial, configuration = self._ask()
            if is_new(configuration):
                proposal = trial, configuration
            else:
                repeats.append(trial)  # while it is running, the next proposal is another
        for trial in repeats:
            self.optuna_study.tell(trial, state=TrialState.FAIL)
        self._n_repeats += len(repeats)
        return proposal

    def tell(self, proposed: optuna.Trial | Configuration, outcome: Outcome) -> None:
        """Report an outcome to Optuna, with a value if there is any. See `Sampler.tell`."""
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
    """Return the sampler of a study, with the arguments of `Sampler`. None if it is a grid."""
    if study.sampler == "grid":
        return None
    return (GaussianProcessSampler if study.sampler == "gp" else Sampler)(study, outcomes, make)


def _optuna_sampler(study: StudyConfig, kind: str, *position: int) -> optuna.samplers.BaseSampler:
    """Create Optuna's sampler of a study.

    Args:
        study: Study whose sampler is not grid.
        kind: "tpe", "gp" or "random".
        position: Numbers that the sampler's seed depends on, in addition to the study's.
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
            # factors with `when` are only in some trials, which requires groups
            group=any(factor.when for factor in study.space.values()),
            # running trials count as bad, so that parallel proposals differ
            constant_liar=True,
        )
