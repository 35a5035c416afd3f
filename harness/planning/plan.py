"""What a study wants minus what its ledger has: the work that is left, and what has been done."""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.config import StudyConfig
from harness.planning.fingerprints import Fingerprints
from harness.planning.settings import (
    Setting,
    SettingMaker,
    distinct,
    enumerate_settings,
    known_settings,
    with_path,
)
from harness.store import Ledger, LedgerRun
from reports.contract import Failure, State

# Seconds that pass between a trial's end and the next one's begin: the record, the worker's turn.
BETWEEN_TRIALS = 0.2
# What a study takes beside features and trials: Ray starts, workers load a backbone, Ray ends.
START = 15.0

RowState = Literal["done", "to run", "pruned", "failed"]


@dataclass(frozen=True)
class Work:
    """One Ray trial: the missing seeds of one setting, which run together.

    may_stop: whether the scheduler may stop it; reference arms and further seeds of a finished
        setting always run to their end.
    """

    setting: Setting
    seeds: tuple[int, ...]
    may_stop: bool = True


@dataclass(frozen=True)
class PlanRow:
    """One line of `--dry-run`.

    state: "to run" also when some of the seeds are done.
    seeds: the seeds that will run.
    done: the seeds that are finished.
    reason: why a seed that has no number failed, if one did; "to run" means that it is tried again.
    key: the setting's.
    """

    label: str
    state: RowState
    seeds: tuple[int, ...]
    done: tuple[int, ...]
    reason: str = ""
    key: str = ""


@dataclass(frozen=True)
class Estimate:
    """Time of what is left; an upper bound where trials may end sooner.

    Features that the cache lacks are not counted.

    seconds: setting key -> of its missing seeds, computation alone; in the order of the trials.
    proposals: seconds of each setting that the sampler will still propose, computation alone.
    at_once: how many trials run at once on this machine.
    source: where the numbers come from, e.g. "12 finished trials".
    """

    seconds: Mapping[str, float]
    proposals: tuple[float, ...]
    at_once: int
    source: str

    @property
    def compute(self) -> float:
        """Seconds of all trials, one after the other."""
        return math.fsum((*self.seconds.values(), *self.proposals))

    @property
    def wall(self) -> float:
        """Seconds of the whole command on this machine.

        Each trial is taken up by the worker that is the first to have nothing to do. At the end
        workers wait for the one that is the last: where trials are few, that is much.
        """
        busy = [0.0] * self.at_once
        for seconds in (*self.seconds.values(), *self.proposals):
            heapq.heapreplace(busy, busy[0] + seconds + BETWEEN_TRIALS)
        return START + max(busy)


@dataclass(frozen=True)
class Plan:
    """The study as wanted, and what is left to do.

    Attributes:
        settings: every wanted setting known now; a tpe or random study adds to them as it goes.
            Those that --path asked for come last.
        equal_arms: reference arms that equal one of the settings (or another arm) and so have no
            run of their own.
        rows: a line for each setting: its state, and the seeds that are done and to run.
        work: trials that are known to be missing, reference arms first.
        proposals: further settings to be asked of the sampler.
        estimate: of its time, if it was asked for and can be made (harness.planning.estimate).
        notes: what else a dry run says.
    """

    settings: tuple[Setting, ...]
    equal_arms: tuple[Setting, ...]
    rows: tuple[PlanRow, ...]
    work: tuple[Work, ...]
    proposals: int
    estimate: Estimate | None = None
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run."""
        return not self.work and not self.proposals


def make_plan(study: StudyConfig, ledger: Ledger, fingerprints: Fingerprints) -> Plan:
    """Compare a study with its ledger; reads both, changes nothing.

    A (setting, seed) is settled when it is COMPLETE; when the scheduler stopped it, as long as the
    study has a scheduler; and when its loss was not finite, which is deterministic, under seeds
    that are all wanted. Every other failure is tried again by the next run.

    Args:
        study: what is wanted.
        ledger: what the store has of it.
        fingerprints: of its data and weights, which the settings' keys are made of.

    Raises:
        ValueError: a backbone or data set cannot be read.
    """
    maker = SettingMaker(study, fingerprints)
    drawn = study.sampler != "grid"
    every_arm = maker.arms()
    own = known_settings(ledger, maker) if drawn else enumerate_settings(maker)
    if drawn:  # a sampler is not asked for what an arm runs anyway
        own = distinct([*own, *filter(None, map(maker.equal_to, every_arm))])
    known = with_path(own, ledger, maker)
    keys = {setting.key for setting in known}
    arms = distinct([arm for arm in every_arm if arm.key not in keys])
    settings = (*arms, *known)
    rows = tuple(_row(study, ledger, setting) for setting in settings)
    # under any seed, be it one that is not wanted any more
    finished = {one.key for one in settings if ledger.state(one.key) is State.COMPLETE}
    work = tuple(
        Work(one, row.seeds, may_stop=not (one.arm or one.for_path or one.key in finished))
        for one, row in zip(settings, rows, strict=True)
        if row.seeds
    )
    proposals = _proposals(maker, len(own), known) if drawn else 0
    equal_arms = tuple(arm for arm in every_arm if arm not in arms)
    return Plan(settings, equal_arms, rows, work, proposals)


def _proposals(maker: SettingMaker, proposed: int, known: Sequence[Setting]) -> int:
    """How many settings the sampler is still to be asked for.

    Args:
        proposed: how many it has proposed.
        known: these, and those of --path.
    """
    left = max(0, (maker.study.trials or 0) - proposed)
    keys = {setting.key for setting in known}
    space = enumerate_settings(maker, len(known) - proposed)
    return min(left, sum(one.key not in keys for one in space)) if space else left


def study_prunes(study: StudyConfig) -> bool:
    """Whether the study has a scheduler that stops trials."""
    return study.scheduler.name != "none"


def _row(study: StudyConfig, ledger: Ledger, setting: Setting) -> PlanRow:
    """What is done of a setting, and which of the study's seeds are still to run.

    One that --path asked for is wanted whole, whether or not the scheduler had stopped it.
    """
    key = setting.key
    seeds, held = study.seeds_of(key), ledger.of(key)
    stopped = study_prunes(study) and not setting.for_path and ledger.state(key) is State.PRUNED
    missing = tuple(s for s in seeds if not (stopped or _is_settled(held.get(s), seeds)))
    done = tuple(s for s in seeds if s in held and held[s].state is State.COMPLETE)
    failed = [held[s].reason for s in seeds if s in held and held[s].state is State.FAIL]
    reason = failed[-1] if failed else ""
    state: RowState = "done" if len(done) == len(seeds) else "pruned"
    if missing:
        state = "to run"
    elif reason:
        state = "failed"
    label = f"{setting.label} (for the path)" if setting.for_path else setting.label
    return PlanRow(label, state, missing, done, reason, key)


def _is_settled(run: LedgerRun | None, seeds: Sequence[int]) -> bool:
    """Whether a run says all of a seed; one that failed may have done so for another of its seeds.

    Args:
        run: that counts for the seed.
        seeds: that are wanted.
    """
    if run is not None and run.state is State.FAIL:
        return run.failure is Failure.NON_FINITE and {*run.seeds} <= {*seeds}
    return run is not None and run.state is State.COMPLETE


@dataclass(frozen=True)
class StudyOutcome:
    """What a run left behind, counted in settings (reference arms included).

    Attributes:
        done: finished for every seed.
        failed: without a number for some seed, with a reason.
        pruned: stopped by the scheduler.
        missing: not run, or cut short.
        experiment: the study's name in the store.
        tracking_uri: of the store.
        interrupted: whether somebody stopped the run.
        ran: whether anything was run at all.
        final: no run would change it: nothing is missing, and what failed would fail again.
        unpublished: why the study's own run does not show the report; "" where it does, or was not
            to.
    """

    done: int
    failed: int
    pruned: int
    missing: int
    experiment: str
    tracking_uri: str
    interrupted: bool = False
    ran: bool = False
    final: bool = False
    unpublished: str = ""

    @property
    def complete(self) -> bool:
        """Whether every setting has a number, or was stopped by the scheduler."""
        return not self.failed and not self.missing and not self.interrupted

    @property
    def state(self) -> State:
        """The state of the study's own run."""
        if self.interrupted:
            return State.INTERRUPTED
        return State.COMPLETE if self.complete else State.FAIL


def outcome_of(
    plan: Plan, experiment: str, tracking_uri: str, *, interrupted: bool, ran: bool
) -> StudyOutcome:
    """Count what a study has come to, in settings.

    Args:
        plan: made after the run, from the ledger as it is then.
        experiment: the study's name in the store.
        tracking_uri: of the store.
        interrupted: whether somebody stopped the run.
        ran: whether anything was run at all.
    """
    rows = plan.rows
    return StudyOutcome(
        done=sum(row.state == "done" for row in rows),
        failed=sum(bool(row.reason) for row in rows),
        pruned=sum(row.state == "pruned" for row in rows),
        missing=sum(bool(row.seeds) and not row.reason for row in rows) + plan.proposals,
        experiment=experiment,
        tracking_uri=tracking_uri,
        interrupted=interrupted,
        ran=ran,
        final=plan.finished,
    )
