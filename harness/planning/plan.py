"""What a study wants minus what its ledger has: the work that is left, and what has been done."""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.config import StudyConfig
from harness.planning.controls import plan_controls, sampled_controls
from harness.planning.fingerprints import Fingerprints
from harness.planning.settings import (
    Setting,
    SettingMaker,
    distinct,
    enumerate_settings,
    known_settings,
)
from harness.store import Failure, RunHistory, RunRecord, State

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
class PlanRow(Work):
    """What is left of a setting, and what is done: a line of `--dry-run`.

    seeds: those that will run; () where nothing is left.
    done: the seeds that are finished.
    failed: Seeds that have failed, and have no number.
    reason: why a seed that has no number failed, if one did; "to run" means that it is tried again.
    stopped: whether the scheduler has stopped it for good.
    """

    done: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    reason: str = ""
    stopped: bool = False

    @property
    def label(self) -> str:
        """The setting's short name."""
        return self.setting.label

    @property
    def state(self) -> RowState:
        """ "to run" also when some of the seeds are done, or have failed."""
        if self.seeds:
            return "to run"
        if self.reason:
            return "failed"
        return "pruned" if self.stopped else "done"


@dataclass(frozen=True)
class Estimate:
    """Time of what is left; an upper bound where trials may end sooner.

    Features that the cache lacks are not counted.

    seconds: setting key -> of its missing seeds, computation alone; in the order of the trials.
    proposals: seconds of each setting that the sampler will still propose, computation alone.
    at_once: how many trials run at once on this machine.
    n_trials: how many finished trials the numbers come from.
    """

    seconds: Mapping[str, float]
    proposals: tuple[float, ...]
    at_once: int
    n_trials: int

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
        rows: a row for each wanted setting known now; a tpe or random study adds to them as it
            goes. Reference arms come first.
        equal_arms: reference arms that equal one of the settings (or another arm) and so have no
            run of their own.
        proposals: further settings to be asked of the sampler.
        estimate: of its time, if details were requested and a trial has finished
            (harness.planning.estimate).
        notes: what else a dry run says.
    """

    rows: tuple[PlanRow, ...]
    equal_arms: tuple[Setting, ...]
    proposals: int
    estimate: Estimate | None = None
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The settings of all rows."""
        return tuple(row.setting for row in self.rows)

    @property
    def work(self) -> tuple[Work, ...]:
        """Trials that are known to be missing, in the order in which they are given out."""
        return tuple(row for row in self.rows if row.seeds)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run."""
        return not self.work and not self.proposals


def make_plan(
    study: StudyConfig, ledger: RunHistory, fingerprints: Fingerprints, retry_before: int = 0
) -> Plan:
    """Compare a study with its ledger; reads both, changes nothing.

    A (setting, seed) is settled when it is COMPLETE; when the scheduler stopped it, as long as the
    study has a scheduler; and when its numbers were not finite, unless that is to be tried again.
    Every other failure is tried again by the next run.

    Args:
        study: what is wanted.
        ledger: what the store has of it.
        fingerprints: of its data and weights, which the settings' keys are made of.
        retry_before: Run non-finite seeds again whose runs began before this time, in milliseconds
            since the epoch. Defaults to none of them.

    Raises:
        ValueError: a backbone or data set cannot be read.
    """
    maker, proposals = SettingMaker(study, fingerprints), 0
    every_arm = maker.arms()
    if study.sampler == "grid":
        known = enumerate_settings(maker)
        every_arm += plan_controls(maker, known)
    else:
        # a sampler is not asked for what an arm runs anyway
        known = _joined(known_settings(ledger, maker), every_arm, maker)
        proposals = _proposals(maker, known)
        is_left = any(_row(study, ledger, setting, retry_before).seeds for setting in known)
        is_ended = not proposals and not is_left
        matched = sampled_controls(maker, known, ledger, is_ended=is_ended)
        known, every_arm = _joined(known, matched, maker), [*every_arm, *matched]
    keys = {setting.key for setting in known}
    arms = distinct([arm for arm in every_arm if arm.key not in keys])
    return Plan(
        rows=tuple(_row(study, ledger, setting, retry_before) for setting in (*arms, *known)),
        equal_arms=tuple(arm for arm in every_arm if arm not in arms),
        proposals=proposals,
    )


def _joined(own: Sequence[Setting], arms: Sequence[Setting], maker: SettingMaker) -> list[Setting]:
    """Return settings of the study with those that some of its controls equal."""
    return distinct([*own, *filter(None, map(maker.equal_to, arms))])


def _proposals(maker: SettingMaker, known: Sequence[Setting]) -> int:
    """Return how many settings the sampler is still asked for.

    Args:
        maker: Of the study's settings.
        known: The settings that it has proposed.
    """
    left = max(0, (maker.study.trials or 0) - len(known))
    keys = {setting.key for setting in known}
    space = enumerate_settings(maker)
    return min(left, sum(one.key not in keys for one in space)) if space else left


def study_prunes(study: StudyConfig) -> bool:
    """Whether the study has a scheduler that stops trials."""
    return study.scheduler.name != "none"


def _row(study: StudyConfig, ledger: RunHistory, setting: Setting, retry_before: int) -> PlanRow:
    """What is done of a setting, and which of the study's seeds are still to run."""
    seeds, held = study.seeds, ledger.of(setting.key)
    state = ledger.state(setting.key)
    stopped = study_prunes(study) and state is State.PRUNED
    known = {seed: held[seed] for seed in seeds if seed in held}
    failed = {seed: run.reason for seed, run in known.items() if run.state is State.FAIL}
    return PlanRow(
        setting,
        () if stopped else tuple(s for s in seeds if not _is_settled(known.get(s), retry_before)),
        # COMPLETE under any seed, be it one that is not wanted any more
        may_stop=not (setting.arm or state is State.COMPLETE),
        done=tuple(seed for seed, run in known.items() if run.state is State.COMPLETE),
        failed=tuple(failed),
        reason=[*failed.values()][-1] if failed else "",
        stopped=stopped,
    )


def _is_settled(run: RunRecord | None, retry_before: int) -> bool:
    """Return True if the run that counts for a seed settles it.

    Args:
        run: The run, if there is any.
        retry_before: See make_plan.
    """
    if run is not None and run.state is State.FAIL:
        return run.failure is Failure.NON_FINITE and run.logged.started >= retry_before
    return run is not None and run.state is State.COMPLETE


@dataclass(frozen=True)
class StudyOutcome:
    """What a run left behind, counted in settings (reference arms included).

    Attributes:
        done: finished for every seed.
        failed: without a number for some seed, with a reason.
        failed_seeds: seeds of these without a number.
        partly: of these, settings with a number for other seeds.
        pruned: stopped by the scheduler.
        missing: not run, or cut short.
        experiment: the study's name in the store.
        tracking_uri: of the store.
        interrupted: whether somebody stopped the run.
        ran: whether anything was run at all.
        final: no run would change it: nothing is missing, and what failed would fail again.
        unpublished: why the study's own run does not show the report; "" where it does, or was not
            to.
        ledger: The runs of the study as they were last read, for its report.
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
    failed_seeds: int = 0
    partly: int = 0
    ledger: RunHistory = field(default_factory=RunHistory, repr=False, compare=False)

    @property
    def reportable(self) -> bool:
        """Whether any setting has a number."""
        return bool(self.done or self.partly)

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
