"""Read the run history of a study: its runs as records, and the run that counts for each seed.

`is_finished` is the only definition of a finished seed.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from harness.store.artifacts import has_trained_models
from harness.store.errors import StoreError
from harness.store.open import Store
from harness.store.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from harness.store.runs import Run, convert_run, find_study_runs, list_experiments, list_runs
from harness.store.schema import MAX_METRIC_VALUE, Cost, Failure, Kind, State, Tag, name_seed_metric
from harness.store.study_record import Seeds, StudyRecord
from harness.wording import describe_error

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# States that are outcomes of a seed -> rank. The run with the highest rank counts.
_PRECEDENCE: Final[Mapping[str, int]] = {State.COMPLETE: 3, State.PRUNED: 2, State.FAIL: 1}
MAX_REQUESTS: Final = 200  # requests of `read_finished`; this many take about a second
_SEEDS: Final = TypeAdapter(Seeds)
_ASSIGNMENT: Final = TypeAdapter(dict[str, Any])


def is_finished(tags: Mapping[str, str], metrics: Mapping[str, float], seed: int) -> bool:
    """Return True if a run is COMPLETE and has all metrics of a seed that its protocol requires.

    Such a seed is finished: it is in the tables, and is not run again.

    Args:
        tags: Tags of a trial's run.
        metrics: Metrics of the run, at least the test metrics that protocols require.
        seed: One of the run's seeds.
    """
    return tags.get(Tag.STATE) == State.COMPLETE and not find_missing_metrics(tags, metrics, seed)


def find_missing_metrics(
    tags: Mapping[str, str], metrics: Mapping[str, float], seed: int
) -> list[str]:
    """Return the names of test metrics that the run's protocol requires and the seed lacks.

    A metric that is not finite counts as missing. An unknown protocol requires none. The arguments
    are those of `is_finished`.
    """
    protocol = PROTOCOLS.get(tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL))
    names = [f"test/{name}" for name in protocol.required] if protocol else []
    values = {name: metrics.get(name_seed_metric(seed, name), math.nan) for name in names}
    # not abs(value) >= MAX_METRIC_VALUE, which is False for NaN
    return [name for name, value in values.items() if not abs(value) < MAX_METRIC_VALUE]


def replaces(state: str, previous: str) -> bool:
    """Return True if a newer run of a seed counts instead of an older one.

    COMPLETE ranks highest, then PRUNED, then FAIL, then states that are not an outcome. Of two
    COMPLETE runs the older one counts; of two other runs of equal rank the newer one counts.

    Args:
        state: State of the newer run.
        previous: State of the older run, which counts so far.
    """
    rank, old_rank = _PRECEDENCE.get(state, 0), _PRECEDENCE.get(previous, 0)
    return rank > old_rank or (rank == old_rank and state != State.COMPLETE)


@dataclass(frozen=True)
class RunRecord:
    """One trial's run in the store.

    Attributes:
        logged: The run as read from MLflow.
        config_key: Key of its configuration.
        control: Name of the control. "" for a configuration of the space.
        assignment: Levels of the factors by dotted name.
        seeds: Seeds of the run.
        state: State of the run.
        failure: Kind of failure. None if it did not fail.
        reason: Why the run has no result, in one line. "" if it has one or no reason was written.
        objective: Seed -> the study's objective at the selected epoch, in percent. {} unless the
            run is COMPLETE.
        seconds: Computation time in seconds. None if it was not logged, or the run is not COMPLETE.
        study: Name of the run's study. "" if it is the study that reads the run.
        unfinished: Seeds of a COMPLETE run that lack a test metric. They have no outcome and are
            rerun.
    """

    logged: Run
    config_key: str
    control: str
    assignment: Mapping[str, Any]
    seeds: tuple[int, ...]
    state: State
    failure: Failure | None
    reason: str
    objective: Mapping[int, float]
    seconds: float | None
    study: str = ""
    unfinished: frozenset[int] = frozenset()

    @property
    def counted_seeds(self) -> tuple[int, ...]:
        """Seeds that have an outcome in this run. () if its state is not an outcome."""
        if self.state not in _PRECEDENCE:
            return ()
        return tuple(seed for seed in self.seeds if seed not in self.unfinished)


def make_run_record(run: Run, objective: str = "", study: str = "") -> RunRecord:
    """Return the record of a trial's run.

    Args:
        run: The run as MLflow has it.
        objective: Selection metric that is the study's objective, such as "harmonic_mean".
        study: Name of the run's study. Defaults to the study that reads the run.

    Raises:
        StoreError: A tag is missing or invalid.
    """
    tags, metrics = run.tags, run.metrics
    try:
        seeds = _SEEDS.validate_json(tags[Tag.SEEDS], strict=True)
        state = State(tags.get(Tag.STATE, State.INTERRUPTED))
        failure = tags.get(Tag.FAILURE)
        is_complete = state is State.COMPLETE
        scores = {
            seed: metrics.get(name_seed_metric(seed, f"selection/{objective}")) for seed in seeds
        }
        return RunRecord(
            logged=run,
            config_key=tags[Tag.CONFIG_KEY],
            control=tags.get(Tag.CONTROL, ""),
            assignment=_ASSIGNMENT.validate_json(tags.get(Tag.ASSIGNMENT, "{}")),
            seeds=seeds,
            state=state,
            failure=Failure(failure) if failure else None,
            reason=tags.get(Tag.REASON, ""),
            objective={
                seed: score
                for seed, score in scores.items()
                if is_complete and score is not None and math.isfinite(score)
            },
            seconds=metrics.get(Cost.SECONDS) if is_complete else None,
            study=study,
            unfinished=frozenset(
                seed for seed in seeds if is_complete and find_missing_metrics(tags, metrics, seed)
            ),
        )
    except KeyError as error:
        raise _make_tags_error(run, f"no tag {error.args[0]}") from error
    except ValidationError as error:
        raise _make_tags_error(run, error.errors()[0]["msg"]) from error
    except ValueError as error:
        raise _make_tags_error(run, describe_error(error)) from error


def _make_tags_error(run: Run, fault: str) -> StoreError:
    """Return the error about a run with invalid tags."""
    advice = "Fix them, or delete the run to rerun its seeds"
    return StoreError(f"run {run.run_id} has invalid tags ({fault}). {advice}")


@dataclass(frozen=True)
class RunHistory:
    """All runs of a study in the order in which they began.

    Attributes:
        runs: Records of the trials' runs.
        logged: All runs as plain data for a report, including the study's own run.
    """

    runs: tuple[RunRecord, ...] = ()
    logged: tuple[Run, ...] = field(default=(), repr=False)

    @cached_property
    def by_key(self) -> Mapping[str, Mapping[int, RunRecord]]:
        """Key of a configuration -> seed -> the run that counts for the seed (see `replaces`).

        Seeds that have no outcome in any run are left out.
        """
        by_key: dict[str, dict[int, RunRecord]] = {}
        for run in self.runs:
            for seed in run.counted_seeds:
                by_seed = by_key.setdefault(run.config_key, {})
                if seed not in by_seed or replaces(run.state, by_seed[seed].state):
                    by_seed[seed] = run
        return by_key

    @cached_property
    def study(self) -> StudyRecord:
        """The study as its own run describes it. Empty if that run is missing or damaged."""
        own_run = next((run for run in self.logged if run.tags.get(Tag.KIND) == Kind.STUDY), None)
        try:
            return StudyRecord.from_tags(own_run.tags if own_run else {})
        except StoreError:  # the next run of the study rewrites the tags
            return StudyRecord()

    def runs_by_seed(self, key: str) -> Mapping[int, RunRecord]:
        """Return the run that counts for each seed of a configuration. {} if there is none."""
        return self.by_key.get(key, {})

    def state(self, key: str) -> State | None:
        """Return the state with the highest rank among a configuration's seeds (see `replaces`).

        None if no run of the configuration has an outcome.
        """
        states = {run.state for run in self.runs_by_seed(key).values()}
        return max(states, key=_PRECEDENCE.__getitem__, default=None)

    def objectives(self, key: str) -> dict[int, float]:
        """Return the objective by seed, without the seeds of a configuration that have none."""
        return {
            seed: run.objective[seed]
            for seed, run in self.runs_by_seed(key).items()
            if run.state is State.COMPLETE and seed in run.objective
        }

    def non_finite(self, key: str) -> set[int]:
        """Return the seeds of a configuration that failed with a non-finite number."""
        return {
            seed
            for seed, run in self.runs_by_seed(key).items()
            if run.state is State.FAIL and run.failure is Failure.NON_FINITE
        }

    @cached_property
    def failed(self) -> frozenset[str]:
        """Keys of the configurations whose state is FAIL."""
        return frozenset(key for key in self.by_key if self.state(key) is State.FAIL)


def read_history(client: "MlflowClient", experiment_id: str, objective: str) -> RunHistory:
    """Read all runs of a study.

    Args:
        client: Client of the store.
        experiment_id: ID of the study's experiment.
        objective: Selection metric that is the study's objective, such as "harmonic_mean".

    Raises:
        StoreError: A run has invalid tags, or is damaged.
    """
    try:
        runs = list_runs(client, experiment_id)
        trials = (run for run in runs if run.tags.get(Tag.KIND) == Kind.TRIAL)
        return RunHistory(tuple(make_run_record(run, objective) for run in trials), tuple(runs))
    except StoreError as error:
        raise StoreError(f"{client.tracking_uri}: {error}") from error


def read_finished(
    client: "MlflowClient", study: str, keys: Sequence[str], *, trained: bool = False
) -> list[RunRecord]:
    """Read the COMPLETE runs of configurations in the other studies of a store, oldest first.

    Runs that copy a reused result are left out, because the run that computed the result is read,
    too, unless it was deleted. MLflow's filters have no "or", so each key is a separate request. If
    there are more than MAX_REQUESTS keys, only those that another study plans are requested.

    Args:
        client: Client of the store.
        study: Name of the study that reads. Its own runs are not returned.
        keys: Keys of the configurations.
        trained: Whether to return only runs that saved their trained models.

    Returns:
        Records of the runs. Runs with invalid tags are left out.

    Raises:
        Exception: Any error of the client, or a StoreError if a run is damaged.
    """
    names = {key: name for key, name in list_experiments(client).items() if name != study}
    if not names or not keys:
        return []
    if len(keys) > MAX_REQUESTS:
        planned_keys = _read_planned_keys(client, [*names])
        keys = [key for key in keys if key in planned_keys]
    runs: list[Run] = []
    for key in keys:
        tags = {Tag.KIND: Kind.TRIAL, Tag.STATE: State.COMPLETE, Tag.CONFIG_KEY: key}
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        runs += map(convert_run, client.search_runs([*names], filter_string=query))
    records = []
    for run in sorted(runs, key=lambda run: (run.started, run.run_id)):
        if run.experiment_id not in names or Tag.REUSED_RUN in run.tags:
            continue
        if trained and not has_trained_models(client, run.run_id):
            continue
        try:
            records.append(make_run_record(run, "", names[run.experiment_id]))
        except StoreError:  # invalid tags; reported when the run's own study is read
            continue
    return records


def _read_planned_keys(client: "MlflowClient", experiment_ids: list[str]) -> set[str]:
    """Return the keys of all configurations that the studies of some experiments plan."""
    planned_keys: set[str] = set()
    for run in find_study_runs(client, experiment_ids):
        with suppress(StoreError):  # invalid tags; reported when that study is read
            record = StudyRecord.from_tags(run.data.tags)
            planned_keys |= {configuration.key for configuration in record.configurations}
    return planned_keys


def find_study_run(store: Store, experiment_id: str) -> Any:
    """Return MLflow's entity of a study's own run, or None if it does not exist.

    The study's own run is the parent of its trials' runs. If there are several, the oldest counts.

    Raises:
        StoreError: The store cannot be read.
    """
    runs = store.read(
        lambda client: client.search_runs(
            [experiment_id],
            filter_string=f"tags.`{Tag.KIND}` = '{Kind.STUDY}'",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
    )
    return runs[0] if runs else None
