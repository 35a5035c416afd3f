"""Reads which (setting, seed) is finished, and how: in the study itself, and in others."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.store.changes import Point
from harness.store.errors import StoreError
from harness.store.trained import keeps_trained
from harness.wording import one_line
from reports.contract import FINGERPRINTS, SQLITE, Cost, Failure, Kind, State, Tag, seed_metric

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from reports.read import Run

MOST_STUDIES = 50_000  # of a store: the most that MLflow gives at once
# of several runs that hold the same (setting, seed), the one that counts; others count for nothing
PRECEDENCE = {State.COMPLETE: 3, State.PRUNED: 2, State.FAIL: 1}


@dataclass(frozen=True)
class LedgerRun:
    """One trial run in the store.

    objective: seed -> the study's objective at the epoch that selection chose, percent.
    seconds: wall time of the run's computation; None until it is complete.
    peak_mb, gpus, device_mb: peak memory, GPUs held and memory of one, MiB; 0: not known, or none.
    device: that it ran on, for people, e.g. "cpu (x86_64)".
    for_path: whether it was run for --path, not for the grid or the sampler.
    params: its settings as MLflow has them. prints: results version, and the fingerprints of data
        and weights, by tag.
    """

    run_id: str
    setting_key: str
    arm: str
    assignment: Mapping[str, Any]
    seeds: tuple[int, ...]
    state: State
    failure: Failure | None
    reason: str
    objective: Mapping[int, float]
    seconds: float | None
    peak_mb: float = 0.0
    gpus: float = 0.0
    device_mb: float = 0.0
    device: str = ""
    for_path: bool = False
    params: Mapping[str, str] = field(default_factory=dict)
    prints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ledger:
    """The trial runs of a study in the order they began, whatever became of them."""

    runs: tuple[LedgerRun, ...] = ()

    @cached_property
    def by_key(self) -> Mapping[str, Mapping[int, LedgerRun]]:
        """Setting key -> seed -> the run that counts: COMPLETE, else PRUNED, else the last FAIL.

        Runs that were interrupted count for nothing. Of two complete ones the first counts.
        """
        rows: dict[str, dict[int, LedgerRun]] = {}
        for run in self.runs:
            for seed in run.seeds if run.state in PRECEDENCE else ():
                held = rows.setdefault(run.setting_key, {}).setdefault(seed, run)
                again = run.state is held.state is State.FAIL
                if again or PRECEDENCE[run.state] > PRECEDENCE[held.state]:
                    rows[run.setting_key][seed] = run
        return rows

    def of(self, key: str) -> Mapping[int, LedgerRun]:
        """Seed -> the run that counts, of one setting; {} where it has none."""
        return self.by_key.get(key, {})

    def state(self, key: str) -> State | None:
        """COMPLETE if any seed of the setting is, else PRUNED, else FAIL; None: never ended."""
        states = {run.state for run in self.of(key).values()}
        return max(states, key=PRECEDENCE.__getitem__, default=None)

    def objectives(self, key: str) -> dict[int, float]:
        """Seed -> objective over all finished seeds of a setting."""
        return {
            seed: run.objective[seed]
            for seed, run in self.of(key).items()
            if run.state is State.COMPLETE and seed in run.objective
        }

    @cached_property
    def failed(self) -> frozenset[str]:
        """Keys of the settings whose state is FAIL."""
        return frozenset(key for key in self.by_key if self.state(key) is State.FAIL)


def read_ledger(client: "MlflowClient", experiment_id: str, objective: str) -> Ledger:
    """Read every trial run of an experiment.

    Args:
        client: a client of the store.
        experiment_id: the study's experiment.
        objective: which selection metric is the study's objective, e.g. "harmonic_mean".
    """
    from reports.read import paged_runs, sqlite_runs

    found = None
    if client.tracking_uri.startswith(SQLITE):
        # of ten thousand runs MLflow's client would take a quarter of a minute
        name = client.get_experiment(experiment_id).name
        wanted = (seed_metric("*", f"selection/{objective}"), *Cost)
        found = sqlite_runs(client.tracking_uri, name, wanted)
    if found is None:
        found = list(paged_runs(client, experiment_id))
    found.sort(key=lambda run: (run.started, run.run_id))
    trials = (run for run in found if run.tags.get(Tag.KIND) == Kind.TRIAL)
    return Ledger(tuple(_sound(run, objective, client.tracking_uri) for run in trials))


def _sound(run: "Run", objective: str, uri: str) -> LedgerRun:
    """ledger_run of a run of the study.

    Raises:
        StoreError: somebody has changed its tags.
    """
    try:
        return ledger_run(run, objective)
    except (ValueError, TypeError) as error:
        raise StoreError(
            f"{uri}: the tags of run {run.run_id} are not what ship-sweep writes "
            f"({one_line(error)}): mend them, or delete the run, and its seeds run again"
        ) from error


def ledger_run(run: "Run", objective: str) -> LedgerRun:
    """A trial's run as the ledger has it.

    Args:
        run: as MLflow has it.
        objective: see read_ledger.

    Raises:
        ValueError: a tag of it is not what ship-sweep writes.
    """
    tags, metrics = run.tags, run.metrics
    seeds = tuple(json.loads(tags.get(Tag.SEEDS, "[]")))
    names = {seed: seed_metric(seed, f"selection/{objective}") for seed in seeds}
    state = State(tags.get(Tag.STATE, State.INTERRUPTED))
    failure = tags.get(Tag.FAILURE)
    return LedgerRun(
        run_id=run.run_id,
        setting_key=tags.get(Tag.SETTING_KEY, ""),
        arm=tags.get(Tag.ARM, ""),
        assignment=dict(json.loads(tags.get(Tag.ASSIGNMENT, "{}"))),
        seeds=seeds,
        state=state,
        failure=Failure(failure) if failure else None,
        reason=tags.get(Tag.REASON, ""),
        objective={
            seed: metrics[name]
            for seed, name in names.items()
            if state is State.COMPLETE and name in metrics and math.isfinite(metrics[name])
        },
        seconds=metrics.get(Cost.SECONDS) if state is State.COMPLETE else None,
        peak_mb=metrics.get(Cost.PEAK_MEMORY, 0.0),
        gpus=metrics.get(Cost.GPUS, 0.0),
        device_mb=metrics.get(Cost.DEVICE_MEMORY, 0.0),
        device=tags.get(Tag.DEVICE, ""),
        for_path=Tag.ADDED in tags,
        params=run.params,
        prints={name: tags[name] for name in FINGERPRINTS if name in tags},
    )


@dataclass(frozen=True)
class Known:
    """A finished run of another study.

    study: the study's name. run: as MLflow has it. row: as a ledger has it.
    """

    study: str
    run: "Run"
    row: LedgerRun


def experiments(client: "MlflowClient") -> dict[str, str]:
    """Id -> name of every experiment that was not deleted."""
    every = client.search_experiments(max_results=MOST_STUDIES)
    return {str(one.experiment_id): str(one.name) for one in every}


def read_known(
    client: "MlflowClient", experiment_id: str | None, keys: Sequence[str], *, trained: bool = False
) -> list[Known]:
    """The finished runs of settings in other studies of a store, oldest first.

    Adopted runs are left out: the run that computed them is found itself, unless somebody has
    deleted it. An sqlite store is asked once; a server, whose filters know no "or", once a
    setting.

    Args:
        client: of the store.
        experiment_id: of the study that asks; None: it has none yet.
        keys: of the settings.
        trained: whether a run must have kept what it trained.
    """
    from reports.read import plain_run, sqlite_finished

    names = experiments(client)
    names.pop(experiment_id or "", None)
    if not names or not keys:
        return []
    found = sqlite_finished(client.tracking_uri, keys)
    if found is None:
        found = []
        for key in keys:
            asked = {Tag.KIND: Kind.TRIAL, Tag.STATE: State.COMPLETE, Tag.SETTING_KEY: key}
            text = " and ".join(f"tags.`{name}` = '{value}'" for name, value in asked.items())
            found += map(plain_run, client.search_runs([*names], filter_string=text))
    known = []
    for run in sorted(found, key=lambda run: (run.started, run.run_id)):
        if run.experiment_id not in names or Tag.ADOPTED_RUN in run.tags:
            continue
        if trained and not keeps_trained(client, run.run_id):
            continue
        try:
            known.append(Known(names[run.experiment_id], run, ledger_run(run, "")))
        except (ValueError, TypeError):  # damaged: its own study says so
            continue
    return known


def epoch_points(client: "MlflowClient", run_id: str, keys: Sequence[str]) -> list[Point]:
    """Every value that a run has of metrics, as it was logged."""
    return [
        Point(one.key, one.value, one.timestamp, one.step)
        for key in keys
        for one in client.get_metric_history(run_id, key)
    ]
