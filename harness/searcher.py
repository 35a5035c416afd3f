"""Ray's searcher over Optuna's ask and tell: gives out work, and tells Optuna what became of it."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optuna
from ray.tune.search import Searcher

from harness.ledger import Ledger
from harness.plan import Plan, Work
from harness.sampler import Outcome, Sampler, outcome_of
from harness.schema import State
from harness.settings import Setting
from harness.study_config import StudyConfig
from harness.trainable import FAILED, FINAL, trial_spec

# proposals that repeat a known setting before the sampler is taken to have run dry
MOST_REPEATS = 50


class StudySearcher(Searcher):
    """Gives Ray the plan's work in order, then the sampler's proposals until there are enough.

    States as Optuna sees them: COMPLETE with the mean over all seeds of the setting that the
    ledger knows, PRUNED for a trial that the scheduler stopped, FAIL for one that failed; never a
    value for either of those. A failed proposal counts towards `trials` like any other.
    """

    def __init__(
        self,
        study: StudyConfig,
        plan: Plan,
        ledger: Ledger,
        make: Callable[[Mapping[str, Any]], Setting],
        spare: Iterable[Setting] = (),
    ) -> None:
        """Build the searcher of one run.

        Args:
            study, plan, ledger: what is wanted, what is left, what is there.
            make: resolves an assignment to its setting.
            spare: every setting of a space that ends, for when the sampler only repeats itself.
        """
        super().__init__()
        self._study = study
        self._ledger = ledger
        self._queue = deque(plan.work)
        self._proposals_left = plan.proposals
        self._spare = deque(spare)
        self._works: dict[str, Work] = {}
        self._running: dict[str, optuna.Trial | None] = {}
        self._outcomes: dict[str, Outcome] = {}
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
        """The work that a Ray trial was given."""
        return self._works[trial_id]

    @property
    def sampler(self) -> Sampler | None:
        """Optuna's part; None for a grid."""
        return self._sampler

    def suggest(  # type: ignore[override]  # Ray's own FINISHED is a str
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """The next trial's config, None while all that may run is running, FINISHED at the end."""
        limit = self._study.concurrency
        if limit is not None and len(self._running) >= limit:
            return None
        if self._queue:
            return self._give(trial_id, self._queue.popleft(), None)
        if self._sampler is None or self._proposals_left <= 0:
            return Searcher.FINISHED
        proposal = self._propose(self._sampler)
        if proposal is None:
            # results that are still to come may lead the sampler elsewhere
            return None if self._running else Searcher.FINISHED
        self._proposals_left -= 1
        trial, setting = proposal
        return self._give(trial_id, Work(setting, self._study.seeds), trial)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna what became of a trial."""
        trial = self._running.pop(trial_id)
        work = self._works[trial_id]
        outcome = self._outcome(work, result or {}, error)
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

    def _give(self, trial_id: str, work: Work, trial: optuna.Trial | None) -> dict[str, Any]:
        self._works[trial_id] = work
        self._running[trial_id] = trial
        objective = self._study.objective
        return trial_spec(work.setting.config, work.seeds, objective, work.judged)

    def _propose(self, sampler: Sampler) -> tuple[optuna.Trial | None, Setting] | None:
        busy = {self._works[trial_id].setting.key for trial_id in self._running}
        for _ in range(MOST_REPEATS):
            trial, setting = sampler.ask()
            if setting.key in self._outcomes:
                sampler.tell(trial, self._outcomes[setting.key])
            elif setting.key in busy:
                sampler.tell(trial, Outcome(State.FAIL))
            else:
                return trial, setting
        while self._spare:
            setting = self._spare.popleft()
            if setting.key not in self._outcomes and setting.key not in busy:
                return None, setting
        return None

    def _outcome(self, work: Work, result: Mapping[str, Any], error: bool) -> Outcome:
        # Tune flattens results: "final/objective", "failed/reason"
        if error or not result or any(key.startswith(f"{FAILED}/") for key in result):
            return Outcome(State.FAIL)
        value = result.get(f"{FINAL}/objective")
        if value is None:
            return Outcome(State.PRUNED)
        held = self._ledger.objectives(work.setting.key)
        values = {seed: value for seed, value in held.items() if seed in self._study.seeds}
        found = result[f"{FINAL}/selection/{self._study.objective}"]
        values.update(zip(work.seeds, found, strict=True))
        mean = math.fsum(values.values()) / len(values)
        return Outcome(State.COMPLETE, mean) if math.isfinite(mean) else Outcome(State.FAIL)
