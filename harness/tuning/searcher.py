"""Ray's searcher: gives out work and proposals, and tells the sampler what became of them."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

from ray.tune.search import Searcher

from harness.checkpoints import checkpoint_name
from harness.config import StudyConfig
from harness.messages import trial_spec
from harness.planning import (
    Plan,
    Setting,
    SettingMaker,
    Work,
    enumerate_settings,
    study_prunes,
)
from harness.ray import death_of
from harness.store import Ledger
from harness.tuning.endings import UNENDED, Attempt, ending_of
from harness.tuning.sampler import Outcome, Sampler, outcome_of
from reports.contract import State

# proposals that repeat a known setting before the sampler is taken to have run dry
MOST_REPEATS = 50


class StudySearcher(Searcher):
    """Gives Ray the plan's work in order, then the sampler's proposals until there are enough.

    A Ray trial is one work: a setting under some seeds.

    States as Optuna sees them: COMPLETE with the mean over the study's seeds where all of them have
    finished, PRUNED for a setting that the scheduler stopped, FAIL for one that failed for any of
    its seeds; never a value for either of those. A failed proposal counts towards `trials` like any
    other.

    attempts: each Ray trial that was given out, by its id.
    """

    def __init__(
        self,
        study: StudyConfig,
        plan: Plan,
        ledger: Ledger,
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
        n_for_path = sum(setting.for_path for setting in plan.settings)
        self._spare = iter(enumerate_settings(make, n_for_path) if plan.proposals else ())
        for key in (one.key for one in plan.settings if one.key not in self._of):
            if state := ledger.state(key):
                self._outcomes[key] = outcome_of(state, ledger.objectives(key), study.seeds)
        samples = (one for one in plan.settings if one.key in self._outcomes and not one.arm)
        known = [(one, self._outcomes[one.key]) for one in samples]
        self.sampler = None if study.sampler == "grid" else Sampler(study, known, make)

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
        name = checkpoint_name(work.setting.key, work.seeds)
        may_stop = work.may_stop and study_prunes(self._study)
        return trial_spec(work.setting.config, work.seeds, may_stop, name)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna what became of a trial; queue what runs again of it."""
        self._running -= 1
        attempt = self.attempts[trial_id]
        setting = attempt.work.setting
        death = None if result and not error else attempt.death or death_of("")
        attempt.ending, again = ending_of(attempt, result or {}, death)
        if again:
            self._of[setting.key].remove(attempt)
            self._enqueue(again, first=True)
        # a setting whose seeds run apart has an outcome when the last of them has
        elif all(one.ending is not UNENDED for one in self._of[setting.key]):
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
            sampler.tell(trial, self._outcomes.get(setting.key, Outcome(State.FAIL)))
        new = filter(self._is_new, self._spare)
        return next((Attempt(Work(setting, self._study.seeds)) for setting in new), None)

    def _is_new(self, setting: Setting) -> bool:
        return setting.key not in self._outcomes and setting.key not in self._of

    def _outcome(self, key: str) -> Outcome:
        """What a setting has come to, now that all of its seeds have ended."""
        values = dict(self._ledger.objectives(key))
        for one in self._of[key]:
            if one.ending.state is not State.COMPLETE:
                return Outcome(one.ending.state)
            found = one.ending.final["selection"].get(self._study.objective) or ()
            values.update(zip(one.work.seeds, found, strict=bool(found)))
        return outcome_of(State.COMPLETE, values, self._study.seeds)
