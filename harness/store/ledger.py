"""Reads what the store says of a study: its table when it was last worked on, and its runs.

That is, which (setting, seed) is finished, and how: in the study itself, and in others.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.store.errors import StoreError
from harness.store.open import Store
from harness.store.trained import keeps_trained
from harness.wording import one_line
from reports.contract import (
    PRECEDENCE,
    Cost,
    Failure,
    Kind,
    State,
    Tag,
    is_finished,
    joined_tag,
    seed_metric,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from reports.read import Run

MOST_STUDIES = 50_000  # of a store: the most that MLflow gives at once


@dataclass(frozen=True)
class LedgerRun:
    """One trial run in the store, and what its tags and metrics say.

    logged: as MLflow has it.
    study: the name of the study that it is of, where that is another one.
    objective: seed -> the study's objective at the epoch that selection chose, percent.
    seconds: wall time of the run's computation; None until it is complete.
    unfinished: Seeds of a COMPLETE run that lack a test metric. They count for nothing, as if the
        run had been cut short, and run again.
    """

    logged: "Run"
    setting_key: str
    arm: str
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
        """The seeds that the run has an outcome of."""
        if self.state not in PRECEDENCE:
            return ()
        return tuple(seed for seed in self.seeds if seed not in self.unfinished)


@dataclass(frozen=True)
class Ledger:
    """The trial runs of a study in the order they began, whatever became of them.

    logged: Every run of the study as MLflow has it, its own included, for a report.
    """

    runs: tuple[LedgerRun, ...] = ()
    logged: tuple["Run", ...] = field(default=(), repr=False)

    @cached_property
    def by_key(self) -> Mapping[str, Mapping[int, LedgerRun]]:
        """Setting key -> seed -> the run that counts: COMPLETE, else PRUNED, else the last FAIL.

        Runs that were interrupted count for nothing. Of two complete ones the first counts.
        """
        rows: dict[str, dict[int, LedgerRun]] = {}
        for run in self.runs:
            for seed in run.counted_seeds:
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

    def non_finite(self, key: str) -> set[int]:
        """Return the seeds of a setting that failed as their numbers were not finite."""
        return {
            seed
            for seed, run in self.of(key).items()
            if run.state is State.FAIL and run.failure is Failure.NON_FINITE
        }

    @cached_property
    def failed(self) -> frozenset[str]:
        """Keys of the settings whose state is FAIL."""
        return frozenset(key for key in self.by_key if self.state(key) is State.FAIL)


def read_ledger(client: "MlflowClient", experiment_id: str, study: str, objective: str) -> Ledger:
    """Read every trial run of a study.

    Args:
        client: a client of the store.
        experiment_id: the study's experiment.
        study: its name.
        objective: which selection metric is the study's objective, e.g. "harmonic_mean".

    Raises:
        StoreError: somebody has changed the tags of a run.
    """
    from reports.read import paged_runs, sqlite_runs

    # of ten thousand runs MLflow's client would take a quarter of a minute
    found = sqlite_runs(client.tracking_uri, study)
    if found is None:
        found = list(paged_runs(client, experiment_id))
    found.sort(key=lambda run: (run.started, run.run_id))
    trials = (run for run in found if run.tags.get(Tag.KIND) == Kind.TRIAL)
    try:
        return Ledger(tuple(ledger_run(run, objective) for run in trials), tuple(found))
    except StoreError as error:
        raise StoreError(f"{client.tracking_uri}: {error}") from error


def ledger_run(run: "Run", objective: str, study: str = "") -> LedgerRun:
    """A trial's run as the ledger has it.

    Args:
        run: as MLflow has it.
        objective: see read_ledger.
        study: see LedgerRun.

    Raises:
        StoreError: somebody has changed its tags; without the store's address.
    """
    tags, metrics = run.tags, run.metrics
    try:
        seeds = tuple(json.loads(tags.get(Tag.SEEDS, "[]")))
        names = {seed: seed_metric(seed, f"selection/{objective}") for seed in seeds}
        state = State(tags.get(Tag.STATE, State.INTERRUPTED))
        failure = tags.get(Tag.FAILURE)
        return LedgerRun(
            logged=run,
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
            study=study,
            unfinished=frozenset(
                seed
                for seed in seeds
                if state is State.COMPLETE and not is_finished(tags, metrics, seed)
            ),
        )
    except (ValueError, TypeError) as error:
        raise StoreError(
            f"the tags of run {run.run_id} are not what ship-sweep writes ({one_line(error)}): "
            f"mend them, or delete the run, and its seeds run again"
        ) from error


def experiments(client: "MlflowClient") -> dict[str, str]:
    """Id -> name of every experiment that was not deleted."""
    every = client.search_experiments(max_results=MOST_STUDIES)
    return {str(one.experiment_id): str(one.name) for one in every}


def read_known(
    client: "MlflowClient", study: str, keys: Sequence[str], *, trained: bool = False
) -> list[LedgerRun]:
    """The finished runs of settings in other studies of a store, oldest first.

    Adopted runs are left out: the run that computed them is found itself, unless somebody has
    deleted it. An sqlite store is asked once; a server, whose filters know no "or", once a
    setting.

    Args:
        client: of the store.
        study: the name of that which asks.
        keys: of the settings.
        trained: whether a run must have kept what it trained.
    """
    from reports.read import plain_run, sqlite_finished

    names = {one: name for one, name in experiments(client).items() if name != study}
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
            known.append(ledger_run(run, "", names[run.experiment_id]))
        except StoreError:  # damaged: its own study says so
            continue
    return known


@dataclass(frozen=True)
class StoredStudy:
    """The study's table when it was last worked on.

    keys: the settings that it holds.
    seeds: that it holds of each.
    factors: key -> levels, None where values were drawn from a range.
    """

    keys: frozenset[str] = frozenset()
    seeds: frozenset[int] = frozenset()
    factors: Mapping[str, Sequence[Any] | None] = field(default_factory=dict)


def find_study_run(store: Store, experiment_id: str) -> Any:
    """The study's own run, the parent of its trials' runs, as MLflow has it; None: there is none.

    Raises:
        StoreError: the store cannot be read.
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


def read_stored_study(store: Store, experiment_id: str) -> StoredStudy:
    """What the study's own run says; nothing where there is none, or it cannot be read.

    Raises:
        StoreError: the store cannot be read.
    """
    run = find_study_run(store, experiment_id)
    tags = run.data.tags if run else {}
    try:
        study, wanted, factors = (
            json.loads(joined_tag(tags, tag)) for tag in (Tag.STUDY, Tag.WANTED, Tag.FACTORS)
        )
        return StoredStudy(
            frozenset(one["setting_key"] for one in wanted),
            frozenset(study["seeds"]),
            {one["key"]: one["levels"] for one in factors},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return StoredStudy()
