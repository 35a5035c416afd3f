"""Suggest trials to Ray Tune: first the plan's work, then the proposals of an Optuna sampler."""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from ray.tune.search import Searcher

from harness.checkpoints import make_checkpoint_name
from harness.config import StudyConfig
from harness.messages import make_trial_spec
from harness.planning import (
    Configuration,
    ConfigurationMaker,
    Plan,
    Work,
    enumerate_configurations,
    halve,
    prunes_trials,
)
from harness.ray import parse_death
from harness.store import Failure, RunHistory, State, name_seed_metric
from harness.tuning.retries import Attempt
from harness.tuning.sampler import Outcome, Sampler, make_sampler


def compute_outcome(
    state: State,
    values: Mapping[int, float],
    seeds: Sequence[int],
    non_finite: Collection[int] = (),
) -> Outcome:
    """Return the outcome of a configuration. Only a COMPLETE one has a value.

    The value is the mean of the objective over the study's seeds, without seeds that failed with a
    non-finite number. (ASHA gets the same mean.) The outcome is FAIL if

    - a seed is missing for another reason: a mean over fewer seeds would not be comparable, and the
      seed will be rerun.
    - all seeds failed with a non-finite number.

    Args:
        state: Final state of the configuration. Any state but COMPLETE is returned as it is,
            without a value.
        values: Objective by finished seed.
        seeds: Seeds of the study. Other seeds are ignored.
        non_finite: Seeds that failed with a non-finite number and are not retried.
    """
    if state is not State.COMPLETE:
        return state, None
    counted = [seed for seed in seeds if seed in values or seed not in non_finite]
    value = fmean([values.get(seed, math.nan) for seed in counted]) if counted else math.nan
    return (state, value) if math.isfinite(value) else (State.FAIL, None)


def _get_memory_key(configuration: Configuration) -> tuple[str, ...]:
    """Return a key that is the same for configurations that need about the same memory per seed."""
    trial = configuration.trial
    return trial.backbone, trial.generator.name, trial.finetuner.name


class StudySearcher(Searcher):
    """Searcher that suggests the plan's work in order, then the sampler's proposals.

    A Ray trial runs one Work: a configuration with some of its seeds. A configuration may therefore
    have several Ray trials.

    Outcomes are reported to Optuna as follows (see `compute_outcome`):

    - COMPLETE with the mean over the seeds with finite numbers.
    - PRUNED without a value if the scheduler stopped the configuration.
    - FAIL without a value if no seed has finite numbers, or any seed failed for another reason.

    The study's `n_trials` is a number of configurations, and includes those that failed.

    Attributes:
        attempts: Attempt of each Ray trial by the trial's ID.
        max_concurrent: Function that returns the maximum number of concurrent trials.
    """

    def __init__(
        self,
        study: StudyConfig,
        plan: Plan,
        history: RunHistory,
        maker: ConfigurationMaker,
        max_concurrent: Callable[[], int],
        divided_work: Sequence[Work] | None = None,
    ) -> None:
        """Create the searcher of one run.

        Args:
            study: The study.
            plan: Work and proposals that are left.
            history: Run history of the study.
            maker: Maker of the study's configurations.
            max_concurrent: Function that returns the maximum number of concurrent trials, which
                increases when nodes join the cluster.
            divided_work: Work of each Ray trial, see `divide_work`. Defaults to the plan's work,
                with one Ray trial per configuration.
        """
        super().__init__()
        self._study, self._history, self.max_concurrent = study, history, max_concurrent
        self.attempts: dict[str, Attempt] = {}
        self._queue = deque[Attempt]()
        self._running = 0
        # memory key -> maximum number of seeds in a trial, once such a trial has run out of memory
        self._max_seeds: dict[tuple[str, ...], int] = {}
        # key of a configuration -> its attempts, without those that were replaced by retries
        self._attempts_by_key = defaultdict[str, list[Attempt]](list)
        self._outcomes: dict[str, Outcome] = {}
        self._enqueue(map(Attempt, plan.work if divided_work is None else divided_work))
        self._proposals_left = plan.n_proposals
        # all configurations of a finite space, in case the sampler only repeats known ones
        self._unproposed = iter(enumerate_configurations(maker) if plan.n_proposals else ())
        keys = [configuration.key for configuration in plan.configurations]
        for key in (key for key in keys if key not in self._attempts_by_key):
            if state := history.state(key):
                values, failed_seeds = history.objectives(key), history.non_finite(key)
                self._outcomes[key] = compute_outcome(state, values, study.seeds, failed_seeds)
        outcomes = [
            (configuration, self._outcomes[configuration.key])
            for configuration in plan.configurations
            if configuration.key in self._outcomes and not configuration.control
        ]
        self.sampler = make_sampler(study, outcomes, maker)
        for attempts in self._attempts_by_key.values():
            configuration = attempts[0].work.configuration
            if self.sampler is not None and not configuration.control:
                optuna_trial = self.sampler.start(configuration)
                for attempt in attempts:  # the last one to end reports their common outcome
                    attempt.optuna_trial = optuna_trial

    def suggest(  # type: ignore[override]  # Ray's own FINISHED is a str
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """Return the next trial's config, None if none may start yet, or FINISHED at the end."""
        if self._running and self._running >= self.max_concurrent():
            return None
        if not self._queue and self.sampler is not None and self._proposals_left > 0:
            proposal = self._propose(self.sampler)
            if proposal is not None:
                self._proposals_left -= 1
                self._enqueue([proposal])
        if not self._queue:
            # running trials may change the sampler's proposals, or have to be retried
            return None if self._running else Searcher.FINISHED
        self._divide_next()
        self.attempts[trial_id] = attempt = self._queue.popleft()
        self._running += 1
        work = attempt.work
        name = make_checkpoint_name(work.configuration.key, work.seeds, self._study.save_models)
        may_stop = work.may_stop and prunes_trials(self._study)
        return make_trial_spec(work.configuration.trial, work.seeds, may_stop, name)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record a trial's end, queue its retries, and report a final outcome to Optuna."""
        self._running -= 1
        attempt = self.attempts[trial_id]
        configuration = attempt.work.configuration
        if result and not error:
            attempt.death = None  # its worker was killed only after it had sent its last result
        elif attempt.death is None:
            attempt.death = parse_death("")  # there is no message about its cause
        attempts = self._attempts_by_key[configuration.key]
        if retries := attempt.end(result or {}):
            attempts.remove(attempt)
            self._enqueue(retries, first=True)
            if len(retries) > 1:  # out of memory
                memory_key = _get_memory_key(configuration)
                n_seeds = max(len(retry.work.seeds) for retry in retries)
                limit = self._max_seeds.get(memory_key, n_seeds)
                self._max_seeds[memory_key] = min(limit, n_seeds)
        elif all(sibling.state is not State.RUNNING for sibling in attempts):
            # all attempts of the configuration, each with some of its seeds, have ended
            outcome = self._outcomes[configuration.key] = self._compute_configuration_outcome(
                configuration.key
            )
            if self.sampler is not None and not configuration.control:
                self.sampler.tell(attempt.optuna_trial or configuration, outcome)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing. The searcher's state is in the run history."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing. The searcher's state is in the run history."""

    def _enqueue(self, attempts: Iterable[Attempt], *, first: bool = False) -> None:
        """Queue attempts in their order: at the front if `first`, else at the end."""
        queued = list(attempts)
        for attempt in queued:
            self._attempts_by_key[attempt.work.configuration.key].append(attempt)
        if first:
            self._queue.extendleft(reversed(queued))
        else:
            self._queue.extend(queued)

    def _divide_next(self) -> None:
        """Halve the first attempt of the queue until it has no more seeds than `_max_seeds` allows.

        An attempt that the scheduler may stop is not divided: it must be stopped as a whole.
        """
        while True:
            attempt = self._queue[0]
            work = attempt.work
            limit = self._max_seeds.get(_get_memory_key(work.configuration), len(work.seeds))
            if len(work.seeds) <= limit or (work.may_stop and prunes_trials(self._study)):
                return
            self._queue.popleft()
            self._attempts_by_key[work.configuration.key].remove(attempt)
            self._enqueue([Attempt(half, attempt.optuna_trial) for half in halve(work)], first=True)

    def _propose(self, sampler: Sampler) -> Attempt | None:
        """Return an attempt for a new configuration with the study's seeds.

        If the sampler only repeats known configurations, the attempt is for the next new one of the
        space.

        Returns:
            The attempt. None if the sampler only repeats known configurations, and the space has no
            new one or is infinite.
        """
        proposal = sampler.propose(self._is_new, self._outcomes)
        if proposal is not None:
            trial, configuration = proposal
            return Attempt(Work(configuration, self._study.seeds), trial)
        for configuration in self._unproposed:
            if self._is_new(configuration):
                return Attempt(Work(configuration, self._study.seeds))
        return None

    def _is_new(self, configuration: Configuration) -> bool:
        return (
            configuration.key not in self._outcomes
            and configuration.key not in self._attempts_by_key
        )

    def _compute_configuration_outcome(self, key: str) -> Outcome:
        """Return the outcome of a configuration whose attempts have all ended."""
        values = dict(self._history.objectives(key))
        failed_seeds = set(self._history.non_finite(key))
        for attempt in self._attempts_by_key[key]:
            if attempt.state is State.FAIL and attempt.failure is Failure.NON_FINITE:
                failed_seeds.update(attempt.work.seeds)
                continue
            if attempt.state is not State.COMPLETE:
                return attempt.state, None
            failed_seeds.update(attempt.failed_seeds)
            for seed in attempt.work.seeds:
                name = name_seed_metric(seed, f"selection/{self._study.objective}")
                if name in attempt.final["metrics"]:
                    values[seed] = attempt.final["metrics"][name]
        return compute_outcome(State.COMPLETE, values, self._study.seeds, failed_seeds)
