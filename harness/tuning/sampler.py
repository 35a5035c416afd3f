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

# The sampler counts as exhausted after it has proposed this many known configurations in a row.
MAX_REPEATS = 50
# A gp study draws at random after this many such repeats: a Gaussian process that is sure of its
# optimum proposes it again and again.
MAX_GP_REPEATS = 3

# Final state of a configuration, and the mean of its objective over seeds (None unless COMPLETE).
Outcome = tuple[State, float | None]


class Sampler:
    """Sampler of a tpe or random study.

    Its random seed depends on the study's sampler_seed and on the number of configurations that had
    ended when the driver started. A resumed study therefore draws new proposals. Pruned and failed
    configurations are reported to Optuna without a value.

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
        sampler = _make_optuna_sampler(study, study.sampler, len(outcomes))
        with silence_loggers("optuna"):
            self.optuna_study = optuna.create_study(direction="maximize", sampler=sampler)
        for configuration, outcome in outcomes:
            self.tell(configuration, outcome)

    def propose(
        self, is_new: Callable[[Configuration], bool], outcomes: Mapping[str, Outcome]
    ) -> tuple[optuna.Trial, Configuration] | None:
        """Propose a new configuration.

        If Optuna proposes a known one, its outcome is reported to Optuna, and Optuna is asked
        again. A known configuration without an outcome, such as a running one, is reported as FAIL.

        Args:
            is_new: Function that returns True if a configuration has not been run or queued.
            outcomes: Outcomes of the configurations that have ended, by key.

        Returns:
            Optuna's trial, which `tell` needs, and the configuration. None if MAX_REPEATS proposals
            in a row were known.
        """
        for _ in range(MAX_REPEATS):
            trial, configuration = self._ask()
            if is_new(configuration):
                return trial, configuration
            self.tell(trial, outcomes.get(configuration.key, (State.FAIL, None)))
        return None

    def start(self, configuration: Configuration) -> optuna.Trial | None:
        """Add a configuration to Optuna's study as a running trial.

        This sampler has not proposed the configuration. It is, for example, one that an earlier
        driver did not finish.

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
    that runs one trial at a time therefore gets the same proposals with and without interruptions.

    Optuna's Gaussian process ignores trials without a value, and would propose neighbors of a
    failing configuration again and again. A configuration without a value is therefore reported
    with the lowest value so far.
    """

    _n_repeats = 0  # number of trials in Optuna's study that repeated known configurations

    def propose(
        self, is_new: Callable[[Configuration], bool], outcomes: Mapping[str, Outcome]
    ) -> tuple[optuna.Trial, Configuration] | None:
        """Propose a new configuration. See `Sampler.propose`.

        Repeats of known configurations are reported to Optuna as failed, without a value. The
        random seed does not depend on their number, because a resumed study does not have them.
        """
        n_known = len(self.optuna_study.get_trials(deepcopy=False)) - self._n_repeats
        repeats: list[optuna.Trial] = []
        proposal = None
        while proposal is None and len(repeats) < MAX_REPEATS:
            kind = "gp" if len(repeats) < MAX_GP_REPEATS else "random"
            sampler = _make_optuna_sampler(self._study, kind, n_known, len(repeats))
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
        """Report an outcome to Optuna. See `Sampler.tell`.

        An outcome without a value is reported as COMPLETE with the lowest value so far, if any.
        """
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
    sampler_class = GaussianProcessSampler if study.sampler == "gp" else Sampler
    return sampler_class(study, outcomes, make)


def _make_optuna_sampler(
    study: StudyConfig, kind: str, *seed_numbers: int
) -> optuna.samplers.BaseSampler:
    """Create Optuna's sampler of a study.

    Args:
        study: Study whose sampler is not grid.
        kind: "tpe", "gp" or "random".
        seed_numbers: Numbers that the random seed depends on, in addition to sampler_seed.
    """
    seed = int(np.random.SeedSequence([study.sampler_seed, *seed_numbers]).generate_state(1)[0])
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
