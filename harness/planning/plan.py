"""Compare the study that the user requested with the runs already in the store.

A *configuration* is one assignment of all factors. Its key hashes everything that determines a
result except the seed. What is left to run is every (configuration, seed) pair without a result,
see `make_plan`.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from harness.config import StudyConfig
from harness.planning.configurations import (
    Configuration,
    ConfigurationMaker,
    deduplicate,
    enumerate_configurations,
    list_proposed,
)
from harness.planning.controls import plan_controls, plan_sampled_controls
from harness.planning.fingerprints import Fingerprints
from harness.store import Failure, RunHistory, RunRecord, State

if TYPE_CHECKING:
    import polars as pl

# Seconds between a trial's end and the start of the next one on the same worker.
SECONDS_BETWEEN_TRIALS = 0.2
# Seconds to start Ray and its workers, and to shut Ray down.
RAY_START_SECONDS = 15.0

RowState = Literal["done", "to run", "pruned", "failed"]


@dataclass(frozen=True)
class Work:
    """A trial to run: one configuration with seeds that are trained together.

    In a plan, `seeds` are all missing seeds of the configuration. harness.planning.division may
    divide them among several trials.

    Attributes:
        configuration: The configuration.
        seeds: Seeds to train.
        may_stop: Whether a scheduler may stop the trial early. Controls, and configurations with a
            finished seed, always run to the end.
    """

    configuration: Configuration
    seeds: tuple[int, ...]
    may_stop: bool = True


@dataclass(frozen=True)
class PlanRow(Work):
    """A configuration in the plan, and its state. `--dry-run` prints one line per row.

    Attributes:
        seeds: Seeds that will run. () if nothing is left.
        done: Requested seeds that are finished.
        failed: Requested seeds whose last run failed. Those that will be retried are also in
            `seeds`.
        reason: Why the last of the failed seeds failed. "" if no seed failed.
        stopped: Whether the scheduler has stopped the configuration. `seeds` is then ().
    """

    done: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    reason: str = ""
    stopped: bool = False

    @property
    def label(self) -> str:
        """Label of the configuration."""
        return self.configuration.label

    @property
    def state(self) -> RowState:
        """State of the row. It is "to run" if any seed will run, even if others are done."""
        if self.seeds:
            return "to run"
        if self.reason:
            return "failed"
        return "pruned" if self.stopped else "done"


@dataclass(frozen=True)
class TimeEstimate:
    """Estimated time of the remaining trials. The extraction of features is not included.

    If the study has a scheduler, it is an upper bound, because trials may be stopped early.

    Attributes:
        seconds: Key of a configuration -> computation time of its missing seeds in seconds.
        trials: Computation time of each trial in seconds, in the order of the trials. The seeds of
            a configuration may be divided among several trials (harness.planning.division).
        proposal_seconds: Computation time in seconds of each configuration that the sampler will
            propose.
        n_concurrent: Number of trials that will run concurrently on this machine.
        n_finished_trials: Number of finished trials on which the estimate is based.
    """

    seconds: Mapping[str, float]
    trials: tuple[float, ...]
    proposal_seconds: tuple[float, ...]
    n_concurrent: int
    n_finished_trials: int

    @property
    def compute(self) -> float:
        """Total computation time of all trials in seconds."""
        return math.fsum((*self.trials, *self.proposal_seconds))

    @property
    def wall(self) -> float:
        """Wall-clock time of the trials on this machine in seconds, including the start of Ray.

        Assumes that each trial, in order, is assigned to the worker that becomes idle first.
        """
        busy_until = [0.0] * self.n_concurrent
        for seconds in (*self.trials, *self.proposal_seconds):
            heapq.heapreplace(busy_until, busy_until[0] + seconds + SECONDS_BETWEEN_TRIALS)
        return RAY_START_SECONDS + max(busy_until)


@dataclass(frozen=True)
class Plan:
    """The study as requested, and the work that is left.

    Attributes:
        rows: One row per configuration known before the run, controls first. The samplers tpe, gp
            and random propose further configurations while the study runs.
        duplicate_controls: Controls that equal a configuration or another control, and have no
            separate run.
        n_proposals: Maximum number of configurations that the sampler will still propose.
        estimate: Estimate of the remaining time (harness.planning.estimate). None if it is unknown
            or, as in the result of `make_plan`, has not been computed.
        notes: Further lines that a dry run prints. () in the result of `make_plan`.
        history: Run history that the plan was made from.

    Example:
        >>> from harness import plan_study
        >>> plan = plan_study("prompt_len", ["seeds=3"])
        >>> len(plan.rows), plan.n_proposals
        (9, 0)
    """

    rows: tuple[PlanRow, ...]
    duplicate_controls: tuple[Configuration, ...]
    n_proposals: int
    estimate: TimeEstimate | None = None
    notes: tuple[str, ...] = ()
    history: RunHistory = field(default_factory=RunHistory, repr=False, compare=False)

    @property
    def configurations(self) -> tuple[Configuration, ...]:
        """Configurations of all rows."""
        return tuple(row.configuration for row in self.rows)

    @property
    def work(self) -> tuple[Work, ...]:
        """Trials left to run, in their order, without future proposals."""
        return tuple(row for row in self.rows if row.seeds)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run."""
        return not self.work and not self.n_proposals

    @property
    def frame(self) -> "pl.DataFrame":
        """Data frame with one row per configuration.

        Its columns are configuration, control (null for configurations of the space), state,
        seeds_to_run, seeds_done, seeds_failed, reason (of the last failure; null if none), seconds
        (estimated computation time of the seeds to run; null if unknown) and config_key.
        """
        # imported here: plan_view imports this module, and polars is slow to import
        from harness.planning.plan_view import plan_frame

        return plan_frame(self)

    def _repr_html_(self) -> str:
        from harness.planning.plan_view import plan_html

        # a plan does not know on which cluster the study will run
        return plan_html(self, is_local=True)


def make_plan(
    study: StudyConfig, history: RunHistory, fingerprints: Fingerprints, retry_before: int = 0
) -> Plan:
    """Compute what is left to run. The store is not changed.

    A (configuration, seed) pair needs no further run if the run that counts for it
    (harness.store.RunHistory) is COMPLETE, or if it failed because a number was not finite (unless
    `retry_before` applies). All other failures are retried. A configuration that the scheduler
    stopped (PRUNED) needs no further run for any seed, as long as the study has a scheduler.

    Args:
        study: The study as defined by the YAML.
        history: Run history of the study.
        fingerprints: Fingerprints of its data and weights, from which keys are computed.
        retry_before: Time in milliseconds since 1970. Seeds that failed because a number was not
            finite are retried if their run began before this time. The default retries none.

    Returns:
        The plan: controls first, then configurations in grid or proposal order.

    Raises:
        ValueError: A backbone or dataset cannot be read, or weight files changed while in use.
    """
    maker, n_proposals = ConfigurationMaker(study, fingerprints), 0
    all_controls = maker.controls()
    if study.sampler == "grid":
        configurations = enumerate_configurations(maker)
        all_controls += plan_controls(maker, configurations)
    else:
        # A configuration that equals a control counts as proposed. One run serves as both.
        proposed = list_proposed(history, maker)
        configurations = _add_equal_configurations(proposed, all_controls, maker)
        n_proposals = _count_proposals(maker, configurations)
        is_left = any(
            _make_row(study, history, configuration, retry_before).seeds
            for configuration in configurations
        )
        is_ended = not n_proposals and not is_left
        more_controls = plan_sampled_controls(maker, configurations, history, is_ended=is_ended)
        configurations = _add_equal_configurations(configurations, more_controls, maker)
        all_controls += more_controls
    keys = {configuration.key for configuration in configurations}
    controls = deduplicate([control for control in all_controls if control.key not in keys])
    return Plan(
        rows=tuple(
            _make_row(study, history, configuration, retry_before)
            for configuration in (*controls, *configurations)
        ),
        duplicate_controls=tuple(control for control in all_controls if control not in controls),
        n_proposals=n_proposals,
        history=history,
    )


def _add_equal_configurations(
    configurations: Sequence[Configuration],
    controls: Sequence[Configuration],
    maker: ConfigurationMaker,
) -> list[Configuration]:
    """Return the configurations, and those of the study's space that equal one of the controls."""
    return deduplicate([*configurations, *filter(None, map(maker.find_equal, controls))])


def _count_proposals(maker: ConfigurationMaker, configurations: Sequence[Configuration]) -> int:
    """Return the number of configurations that the sampler will still propose.

    This is `n_trials` minus the number proposed so far. In a finite space it is at most the number
    of configurations that have not been proposed.

    Args:
        maker: Maker of the study's configurations.
        configurations: Configurations that the sampler has proposed.
    """
    n_left = max(0, (maker.study.n_trials or 0) - len(configurations))
    space = enumerate_configurations(maker)
    if not space:
        return n_left
    keys = {configuration.key for configuration in configurations}
    return min(n_left, sum(configuration.key not in keys for configuration in space))


def prunes_trials(study: StudyConfig) -> bool:
    """Return True if the study has a scheduler that stops trials."""
    return study.scheduler.name != "none"


def _make_row(
    study: StudyConfig, history: RunHistory, configuration: Configuration, retry_before: int
) -> PlanRow:
    """Return the plan's row of a configuration, from the runs that count for its seeds."""
    seeds, runs = study.seeds, history.runs_by_seed(configuration.key)
    state = history.state(configuration.key)
    stopped = prunes_trials(study) and state is State.PRUNED
    runs_by_seed = {seed: runs[seed] for seed in seeds if seed in runs}
    failed = {seed: run.reason for seed, run in runs_by_seed.items() if run.state is State.FAIL}
    seeds_left = tuple(
        seed for seed in seeds if not _is_settled(runs_by_seed.get(seed), retry_before)
    )
    return PlanRow(
        configuration,
        () if stopped else seeds_left,
        # `state` is COMPLETE if any seed is finished, even one that is no longer requested
        may_stop=not (configuration.control or state is State.COMPLETE),
        done=tuple(seed for seed, run in runs_by_seed.items() if run.state is State.COMPLETE),
        failed=tuple(failed),
        reason=[*failed.values()][-1] if failed else "",
        stopped=stopped,
    )


def _is_settled(run: RunRecord | None, retry_before: int) -> bool:
    """Return True if a seed needs no further run.

    Args:
        run: Run that counts for the seed (harness.store.RunHistory). None if it has no run.
        retry_before: See `make_plan`.
    """
    if run is not None and run.state is State.FAIL:
        return run.failure is Failure.NON_FINITE and run.logged.started >= retry_before
    return run is not None and run.state is State.COMPLETE


@dataclass(frozen=True)
class StudyOutcome:
    """Outcome of a study, as returned by `run_study`.

    Attributes:
        done: Number of configurations, including controls, that are finished for every seed.
        failed: Number of configurations with at least one failed seed, including `n_partial`.
        pruned: Number of configurations that the scheduler stopped.
        missing: Number of configurations that have not been run, or were interrupted.
        experiment: Name of the study's experiment in the store.
        tracking_uri: Address of the store.
        interrupted: Whether the study was interrupted.
        ran: Whether anything was run.
        final: Whether running the study again would change nothing: nothing is missing, and no
            failure would be retried.
        unpublished: Why the report could not be written to the study's own MLflow run. "" if it
            was written, or if there is no report.
        failed_seeds: Total number of failed seeds.
        n_partial: Number of configurations with both failed and finished seeds.
        history: Run history of the study as last read. The report is made from it.

    Example:
        >>> outcome = run_study("prompt_len", ["seeds=3"])  # doctest: +SKIP
        >>> if not outcome.complete:  # doctest: +SKIP
        ...     print(outcome.failed, outcome.missing)
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
    n_partial: int = 0
    history: RunHistory = field(default_factory=RunHistory, repr=False, compare=False)

    @property
    def reportable(self) -> bool:
        """Whether any configuration has a finished seed, so that there is a report."""
        return bool(self.done or self.n_partial)

    @property
    def complete(self) -> bool:
        """Whether every configuration has its results, or was stopped by the scheduler."""
        return not self.failed and not self.missing and not self.interrupted

    @property
    def state(self) -> State:
        """State of the study's own MLflow run: COMPLETE, FAIL or INTERRUPTED."""
        if self.interrupted:
            return State.INTERRUPTED
        return State.COMPLETE if self.complete else State.FAIL
