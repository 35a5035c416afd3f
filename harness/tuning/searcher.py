"""Ray's searcher over Optuna's ask and tell: gives out work, and tells Optuna what became of it."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optuna
from ray.tune.search import Searcher

from harness.config import StudyConfig
from harness.planning import Plan, Setting, Work, study_prunes
from harness.store import Ledger
from harness.tuning.optuna_sampler import Outcome, Sampler, outcome_of, over_seeds
from harness.tuning.places import MANY, Places
from harness.tuning.retry_policy import Ending, Given, judge
from harness.tuning.worker_deaths import Deaths
from harness.worker import checkpoint_name, trial_spec
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
    """

    def __init__(
        self,
        study: StudyConfig,
        plan: Plan,
        ledger: Ledger,
        make: Callable[[Mapping[str, Any]], Setting],
        spare: Iterable[Setting] = (),
        stopped: Mapping[str, str] | None = None,
        deaths: Deaths | None = None,
        places: int = MANY,
    ) -> None:
        """Build the searcher of one run.

        Args:
            study, plan, ledger: what is wanted, what is left, what is there.
            make: resolves an assignment to its setting.
            spare: every setting of a space that ends, for when the sampler only repeats itself.
            stopped: Ray's ids of the trials that the scheduler has stopped, and why.
            deaths: what workers died of.
            places: trials that can run at once.
        """
        super().__init__()
        self._study = study
        self._ledger = ledger
        self._stopped = {} if stopped is None else stopped
        self._deaths = deaths or Deaths(frozenset)
        self.places = Places(places)
        self._ended: dict[str, Ending] = {}
        self._queue = deque(map(Given, plan.work))
        # key -> works of a setting that wait or run
        self._unended = Counter(work.setting.key for work in plan.work)
        self._proposals_left = plan.proposals
        self._spare = deque(spare)
        self._given: dict[str, Given] = {}
        self._running: set[str] = set()
        self._outcomes: dict[str, Outcome] = {}
        # of settings that still run: how those of their seeds ended that are done
        self._states: dict[str, list[State]] = {}
        self._values: dict[str, dict[int, float]] = {}
        pending = {work.setting.key for work in plan.work}
        known = []
        for setting in plan.settings:
            outcome = outcome_of(ledger, setting.key, study.seeds)
            if outcome is not None and setting.key not in pending:
                self._outcomes[setting.key] = outcome
                if not setting.arm:
                    known.append((setting, outcome))
        self._sampler = None if study.sampler == "grid" else Sampler(study, known, make)

    def work(self, trial_id: str) -> Work:
        """What a Ray trial was given."""
        return self._given[trial_id].work

    @property
    def sampler(self) -> Sampler | None:
        """Optuna's part; None for a grid."""
        return self._sampler

    def suggest(  # type: ignore[override]  # Ray's own FINISHED is a str
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """The next trial's config, None while all that may run is running, FINISHED at the end."""
        limit = self._study.concurrency
        full = limit is not None and len(self._running) >= limit
        if full or not self.places.have_room(self._running):
            return None
        if not self._queue and self._sampler is not None and self._proposals_left > 0:
            self._ask(self._sampler)
        if self._queue:
            return self._give(trial_id, self._queue.popleft())
        if self._running:
            # results that are still to come may lead the sampler elsewhere, or bring work back
            return None
        return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna what became of a trial; queue what runs again of it."""
        self._running.discard(trial_id)
        given = self._given[trial_id]
        self._unended[given.work.setting.key] -= 1
        death = None if result and not error else self._deaths.of(trial_id)
        ending, left = judge(given, result or {}, self._stopped.get(trial_id), death)
        if ending.state is not State.INTERRUPTED:
            self._take(given, ending)
        self._queue.extendleft(reversed(left))
        self._unended.update(again.work.setting.key for again in left)
        self._ended[trial_id] = ending

    def ending(self, trial_id: str) -> Ending:
        """What became of a Ray trial; asked for once, after it has ended."""
        return self._ended.pop(trial_id)

    def _take(self, given: Given, ending: Ending) -> None:
        """Take a state in; a setting whose seeds run apart has one when the last of them has."""
        work, key = given.work, given.work.setting.key
        self._states.setdefault(key, []).append(ending.state)
        if ending.state is State.COMPLETE:
            found = ending.final["selection"].get(self._study.objective)
            held = self._values.setdefault(key, self._ledger.objectives(key))
            held.update(zip(work.seeds, found or (), strict=bool(found)))
        if not self._unended[key]:
            self._tell(work, given.proposed, self._outcome(key))

    def _tell(self, work: Work, trial: optuna.Trial | None, outcome: Outcome) -> None:
        self._outcomes[work.setting.key] = outcome
        if self._sampler is None or work.setting.arm:
            return
        if trial is None:
            self._sampler.add(work.setting, outcome)
        else:
            self._sampler.tell(trial, outcome)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the only memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the only memory."""

    def _give(self, trial_id: str, given: Given) -> dict[str, Any]:
        self._given[trial_id] = given
        self._running.add(trial_id)
        work = given.work
        name = checkpoint_name(work.setting.key, work.seeds)
        may_stop = work.may_stop and study_prunes(self._study)
        return trial_spec(work.setting.config, work.seeds, may_stop, name)

    def _ask(self, sampler: Sampler) -> None:
        """Queue a proposal, if the sampler has a new one."""
        proposal = self._propose(sampler)
        if proposal is None:
            return
        self._proposals_left -= 1
        trial, setting = proposal
        self._unended[setting.key] += 1
        self._queue.append(Given(Work(setting, self._study.seeds), trial))

    def _propose(self, sampler: Sampler) -> tuple[optuna.Trial | None, Setting] | None:
        for _ in range(MOST_REPEATS):
            trial, setting = sampler.ask()
            if setting.key in self._outcomes:
                sampler.tell(trial, self._outcomes[setting.key])
            elif self._unended[setting.key]:
                sampler.tell(trial, Outcome(State.FAIL))
            else:
                return trial, setting
        while self._spare:
            setting = self._spare.popleft()
            if setting.key not in self._outcomes and not self._unended[setting.key]:
                return None, setting
        return None

    def _outcome(self, key: str) -> Outcome:
        """What a setting has come to, now that all of its seeds have ended."""
        values = self._values.pop(key, {})
        for state in self._states.pop(key):
            if state is not State.COMPLETE:
                return Outcome(state)
        return over_seeds(values, self._study.seeds)
