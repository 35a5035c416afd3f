"""Read the run history of a study: its runs as records, and the run that counts for each seed.

`is_finished` is the only definition of a finished seed: `make_run_record` applies it to each run,
and all other code reads the result from the records.
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
from harness.store.runs import (
    Run,
    convert_run,
    find_study_runs,
    iter_pages,
    list_experiments,
    list_runs,
)
from harness.store.schema import MAX_METRIC_VALUE, Cost, Failure, Kind, State, Tag, name_seed_metric
from harness.store.study_record import Seeds, StudyRecord
from harness.wording import describe_error

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# States that are outcomes of a seed -> rank. The run with the highest rank counts.
_PRECEDENCE: Final[Mapping[str, int]] = {State.COMPLETE: 3, State.PRUNED: 2, State.FAIL: 1}
# `read_runs_of_other_studies` reads the runs of at most this many configurations without a look at
# what other studies plan. 200 requests take one to two seconds from a file.
_MAX_UNCHECKED_KEYS: Final = 200
# Runs that are read in pages in the time of a request for one configuration's runs: 10 ms against 3
# ms per run of a page, in a file with 1600 runs. A server's latency favors pages even more.
_PAGED_RUNS_PER_REQUEST: Final = 3
_SEEDS: Final = TypeAdapter(Seeds)
_ASSIGNMENT: Final = TypeAdapter(dict[str, Any])


def is_finished(tags: Mapping[str, str], metrics: Mapping[str, float], seed: int) -> bool:
    """Return True if a run is COMPLETE and has, for this seed, all metrics its protocol requires.

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

    A metric that is not finite counts as missing, and so does a finite one of at least
    MAX_METRIC_VALUE. An unknown protocol requires no metrics. The arguments are those of
    `is_finished`.
    """
    protocol = PROTOCOLS.get(tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL))
    names = [f"test/{name}" for name in protocol.required] if protocol else []
    values = {name: metrics.get(name_seed_metric(seed, name), math.nan) for name in names}
    # `not <` finds NaN, too; `>=` would be False for it
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
        reason: Why the run has no result, in one line. "" if it has a result, or if no reason was
            written.
        objective: Seed -> the study's objective at the selected epoch, in percent. {} unless the
            run is COMPLETE.
        seconds: Computation time in seconds. None if it was not logged, or the run is not COMPLETE.
        study_name: Name of the study that the run belongs to. "" in a study's own history.
        unfinished: Seeds of a COMPLETE run that are not finished (see `is_finished`). They have no
            outcome and are rerun.
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
    study_name: str = ""
    unfinished: frozenset[int] = frozenset()

    @property
    def seeds_with_outcome(self) -> tuple[int, ...]:
        """Seeds that have an outcome in this run. () if its state is not an outcome.

        For some of them, the outcome in another run may count instead (see `replaces`).
        """
        if self.state not in _PRECEDENCE:
            return ()
        return tuple(seed for seed in self.seeds if seed not in self.unfinished)


def make_run_record(run: Run, objective: str = "", study_name: str = "") -> RunRecord:
    """Return the record of a trial's run.

    Args:
        run: The run as MLflow has it.
        objective: Selection metric that is the study's objective, such as "harmonic_mean".
        study_name: Name of the study that the run belongs to. "" in a study's own history.

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
            study_name=study_name,
            unfinished=frozenset(
                seed for seed in seeds if is_complete and not is_finished(tags, metrics, seed)
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
        all_runs: All runs as read from MLflow, including the study's own run.
    """

    runs: tuple[RunRecord, ...] = ()
    all_runs: tuple[Run, ...] = field(default=(), repr=False)

    @cached_property
    def by_key(self) -> Mapping[str, Mapping[int, RunRecord]]:
        """Key of a configuration -> seed -> the run that counts for the seed (see `replaces`).

        Seeds that have no outcome in any run are left out.
        """
        by_key: dict[str, dict[int, RunRecord]] = {}
        for run in self.runs:
            for seed in run.seeds_with_outcome:
                by_seed = by_key.setdefault(run.config_key, {})
                if seed not in by_seed or replaces(run.state, by_seed[seed].state):
                    by_seed[seed] = run
        return by_key

    @cached_property
    def study(self) -> StudyRecord:
        """The study as its own run describes it. Empty if that run is missing or damaged."""
        own_run = next((run for run in self.all_runs if run.tags.get(Tag.KIND) == Kind.STUDY), None)
        try:
            return StudyRecord.from_tags(own_run.tags if own_run else {})
        except StoreError:  # the tags are rewritten the next time the study is started
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
        """Return the objective of each seed of a configuration that has one, by seed."""
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


def read_runs_of_other_studies(
    client: "MlflowClient", study_name: str, keys: Sequence[str], *, trained: bool = False
) -> list[RunRecord]:
    """Read the COMPLETE runs of configurations in the other studies of a store, oldest first.

    Runs whose results were copied from another run are left out; the original is returned instead
    if it still exists. A COMPLETE run may have seeds that are not finished.

    Args:
        client: Client of the store.
        study_name: Name of the study that reads. Its own runs are not returned.
        keys: Keys of the configurations.
        trained: Whether to return only runs that saved their trained models.

    Returns:
        Records of the runs. Runs with invalid tags are left out.

    Raises:
        Exception: Any error of the client, or a StoreError if a run is damaged.
    """
    names = {key: name for key, name in list_experiments(client).items() if name != study_name}
    if not names or not keys:
        return []
    records = []
    runs = map(convert_run, _search_complete_runs(client, [*names], keys))
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


def _search_complete_runs(
    client: "MlflowClient", experiment_ids: Sequence[str], keys: Sequence[str]
) -> list[Any]:
    """Return MLflow's entities of the COMPLETE runs of configurations in some experiments.

    MLflow's filters have no "or", so there is one request per key. If there are more than
    _MAX_UNCHECKED_KEYS keys, only those that a study of the experiments plans are searched for. If
    these studies plan few other configurations, all of their COMPLETE runs are read in pages
    instead, which takes fewer requests and less time.
    """
    filters = {Tag.KIND: Kind.TRIAL, Tag.STATE: State.COMPLETE}
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in filters.items())
    if len(keys) > _MAX_UNCHECKED_KEYS:
        requested_keys = set(keys)
        plans = {
            experiment_id: planned_keys
            for experiment_id, planned_keys in _read_plans(client, experiment_ids).items()
            if planned_keys & requested_keys
        }
        experiment_ids, all_planned_keys = [*plans], set[str]().union(*plans.values())
        keys = [key for key in keys if key in all_planned_keys]
        if sum(map(len, plans.values())) <= _PAGED_RUNS_PER_REQUEST * len(keys):
            runs = {  # by ID, because a run can be on two pages if a study goes on meanwhile
                run.info.run_id: run
                for experiment_id in experiment_ids
                for page in iter_pages(client, experiment_id, query)
                for run in page
                if run.data.tags.get(Tag.CONFIG_KEY) in requested_keys
            }
            return [*runs.values()]
    return [
        run
        for key in keys
        for run in client.search_runs(
            [*experiment_ids], f"{query} and tags.`{Tag.CONFIG_KEY}` = '{key}'"
        )
    ]


def _read_plans(client: "MlflowClient", experiment_ids: Sequence[str]) -> dict[str, set[str]]:
    """Return the keys of the configurations that the study of each experiment plans.

    Experiments without a study, and studies with invalid tags, are left out.
    """
    plans: dict[str, set[str]] = {}
    for run in find_study_runs(client, experiment_ids):
        with suppress(StoreError):  # invalid tags; reported when that study is read
            record = StudyRecord.from_tags(run.data.tags)
            planned_keys = plans.setdefault(str(run.info.experiment_id), set())
            planned_keys |= {configuration.key for configuration in record.configurations}
    return plans


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
