"""Gives out work and proposals: Ray's searcher, and Optuna behind it, by what became of others."""

import math
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from harness.checkpoints import checkpoint_name
from harness.config import StudyConfig, belongs, optuna_params, suggest
from harness.machine import quiet
from harness.messages import trial_spec
from harness.planning import Plan, Setting, SettingMaker, Work, enumerate_settings, study_prunes
from harness.ray import death_of
from harness.store import Failure, RunHistory, State, seed_metric
from harness.tuning.endings import Attempt

# proposals that repeat a known setting before the sampler is taken to have run dry
MOST_REPEATS = 50

# How a setting ended, and the mean of its objective over the study's seeds; None unless COMPLETE.
Outcome = tuple[State, float | None]


def scored(
    state: State,
    values: Mapping[int, float],
    seeds: Sequence[int],
    non_finite: Collection[int] = (),
) -> Outcome:
    """A setting's outcome: COMPLETE alone has a value, and FAIL where a seed has no finite one.

    The value is the mean over the seeds whose numbers stayed finite, as ASHA sees it. A mean over
    fewer seeds is another quantity where others failed by chance: these are to run again.

    Args:
        state: how the setting ended.
        values: objective of each finished seed.
        seeds: that the study asks for; a mean leaves out others.
        non_finite: Seeds that failed for good, as their numbers were not finite.
    """
    if state is not State.COMPLETE:
        return state, None
    counted = [seed for seed in seeds if seed in values or seed not in non_finite]
    value = fmean([values.get(seed, math.nan) for seed in counted]) if counted else math.nan
    return (state, value) if math.isfinite(value) else (State.FAIL, None)


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
        self.optuna_study = _optuna_study(study, int(seed[0]))
        for setting, outcome in known:
            self.tell(setting, outcome)

    def ask(self) -> tuple[optuna.Trial, Setting]:
        """Propose a setting; returns Optuna's trial, which tell() needs, and the setting."""
        trial = self.optuna_study.ask()
        return trial, self._make(suggest(trial, self._study))

    def start(self, setting: Setting) -> optuna.Trial | None:
        """Add a setting that runs although it was not proposed here, e.g. after an interruption.

        Returns:
            Optuna's trial, which tell() needs; None if a value is outside the study's space.
        """
        if not belongs(self._study, setting.assignment):
            return None
        self.optuna_study.enqueue_trial(optuna_params(self._study, setting.assignment))
        trial = self.optuna_study.ask()
        suggest(trial, self._study)
        return trial

    def tell(self, proposed: optuna.Trial | Setting, outcome: Outcome) -> None:
        """Tell Optuna what became of a proposal, or of a setting that it did not propose here.

        A setting with a value outside the study's space is passed over.

        Args:
            proposed: Optuna's trial, as ask() or start() returned it, or a setting.
        """
        state, value = TrialState[outcome[0].name], outcome[1]
        if isinstance(proposed, optuna.Trial):
            self.optuna_study.tell(proposed, value, state=state)
            return
        if belongs(self._study, proposed.assignment):
            drawn = optuna.trial.FixedTrial(optuna_params(self._study, proposed.assignment))
            suggest(drawn, self._study)
            ended = optuna.trial.create_trial(
                state=state, value=value, params=drawn.params, distributions=drawn.distributions
            )
            self.optuna_study.add_trial(ended)


def _optuna_study(study: StudyConfig, seed: int) -> optuna.Study:
    """Create an Optuna study in memory that maximizes; its creation is not logged.

    Args:
        study: a study whose sampler is tpe or random.
        seed: Seed of Optuna's sampler.
    """
    with quiet("optuna"), warnings.catch_warnings():
        # group is experimental in Optuna 5, multivariate and constant_liar in Optuna 4
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = (
            optuna.samplers.TPESampler(
                seed=seed,
                multivariate=True,
                # factors with `when` are in some trials only, which needs groups
                group=any(factor.when for factor in study.space.values()),
                # trials that still run count as bad, so that parallel proposals differ
                constant_liar=True,
            )
            if study.sampler == "tpe"
            else optuna.samplers.RandomSampler(seed=seed)
        )
        return optuna.create_study(direction="maximize", sampler=sampler)


class StudySearcher(Searcher):
    """Gives Ray the plan's work in order, then the sampler's proposals until there are enough.

    A Ray trial is one work: a setting under some seeds.

    States as Optuna sees them: COMPLETE with the mean over the study's seeds whose numbers stayed
    finite, PRUNED for a setting that the scheduler stopped, FAIL for one that has no such seed, or
    failed otherwise for any; never a value for either of those. A failed proposal counts towards
    `trials` like any other.

    attempts: each Ray trial that was given out, by its id.
    """

    def __init__(
        self,
        study: StudyConfig,
        plan: Plan,
        ledger: RunHistory,
        make: SettingMaker,
        at_once: Callable[[], int],
    ) -> None:
        """Build the searcher of one run.

        Args:
            study, plan, ledger: what is wanted, what is left, what is there.
            make: resolves an assignment to its setting.
            at_once: tells how many trials may be out at once; where nodes join, there are more.
        """
        super().__init__()
        self._study, self._ledger, self.at_once = study, ledger, at_once
        self.attempts: dict[str, Attempt] = {}
        self._queue = deque[Attempt]()
        self._running = 0
        # of each setting that has work: its attempts, but for those that run again
        self._of = defaultdict[str, list[Attempt]](list)
        self._outcomes: dict[str, Outcome] = {}
        self._enqueue(map(Attempt, plan.work))
        self._proposals_left = plan.proposals
        # every setting of a space that ends, for when the sampler only repeats itself
        self._spare = iter(enumerate_settings(make) if plan.proposals else ())
        for key in (one.key for one in plan.settings if one.key not in self._of):
            if state := ledger.state(key):
                values, lost = ledger.objectives(key), ledger.non_finite(key)
                self._outcomes[key] = scored(state, values, study.seeds, lost)
        samples = (one for one in plan.settings if one.key in self._outcomes and not one.arm)
        known = [(one, self._outcomes[one.key]) for one in samples]
        self.sampler = None if study.sampler == "grid" else Sampler(study, known, make)
        for attempt in self._queue:
            if self.sampler is not None and not attempt.work.setting.arm:
                attempt.proposed = self.sampler.start(attempt.work.setting)

    def suggest(  # type: ignore[override]  # Ray's own FINISHED is a str
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """The next trial's config, None while all that may run is running, FINISHED at the end."""
        if self._running and self._running >= self.at_once():
            return None
        if not self._queue and self.sampler is not None and self._proposals_left > 0:
            proposal = self._propose(self.sampler)
            if proposal is not None:
                self._proposals_left -= 1
                self._enqueue([proposal])
        if not self._queue:
            # results that are still to come may lead the sampler elsewhere, or bring work back
            return None if self._running else Searcher.FINISHED
        self.attempts[trial_id] = attempt = self._queue.popleft()
        self._running += 1
        work = attempt.work
        name = checkpoint_name(work.setting.key, work.seeds, self._study.save)
        may_stop = work.may_stop and study_prunes(self._study)
        return trial_spec(work.setting.config, work.seeds, may_stop, name)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna what became of a trial; queue what runs again of it."""
        self._running -= 1
        attempt = self.attempts[trial_id]
        setting = attempt.work.setting
        if result and not error:
            attempt.death = None  # its last result came before it was killed
        elif attempt.death is None:
            attempt.death = death_of("")
        if again := attempt.end(result or {}):
            self._of[setting.key].remove(attempt)
            self._enqueue(again, first=True)
        # a setting whose seeds run apart has an outcome when the last of them has
        elif all(one.state is not State.RUNNING for one in self._of[setting.key]):
            outcome = self._outcomes[setting.key] = self._outcome(setting.key)
            if self.sampler is not None and not setting.arm:
                self.sampler.tell(attempt.proposed or setting, outcome)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the only memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the only memory."""

    def _enqueue(self, attempts: Iterable[Attempt], *, first: bool = False) -> None:
        """Have them wait for a worker; first: before all others."""
        new = list(attempts)
        for one in new:
            self._of[one.work.setting.key].append(one)
        if first:
            self._queue.extendleft(reversed(new))
        else:
            self._queue.extend(new)

    def _propose(self, sampler: Sampler) -> Attempt | None:
        """A setting under the study's seeds that has neither ended nor waits nor runs, if any."""
        for _ in range(MOST_REPEATS):
            trial, setting = sampler.ask()
            if self._is_new(setting):
                return Attempt(Work(setting, self._study.seeds), trial)
            sampler.tell(trial, self._outcomes.get(setting.key, (State.FAIL, None)))
        new = filter(self._is_new, self._spare)
        return next((Attempt(Work(setting, self._study.seeds)) for setting in new), None)

    def _is_new(self, setting: Setting) -> bool:
        return setting.key not in self._outcomes and setting.key not in self._of

    def _outcome(self, key: str) -> Outcome:
        """What a setting has come to, now that all of its seeds have ended."""
        values = dict(self._ledger.objectives(key))
        lost = set(self._ledger.non_finite(key))
        for one in self._of[key]:
            if one.state is State.FAIL and one.failure is Failure.NON_FINITE:
                lost.update(one.work.seeds)
                continue
            if one.state is not State.COMPLETE:
                return one.state, None
            lost.update(one.lost)
            for seed in one.work.seeds:
                name = seed_metric(seed, f"selection/{self._study.objective}")
                if name in one.final["metrics"]:
                    values[seed] = one.final["metrics"][name]
        return scored(State.COMPLETE, values, self._study.seeds, lost)
