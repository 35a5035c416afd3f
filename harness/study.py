"""Brings a study to what its YAML says: plans, runs what is missing, and says what became of it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.estimate import Say, estimate
from harness.fingerprints import Fingerprints
from harness.interrupts import Interrupts, SweepStopped
from harness.ledger import Ledger, read_ledger
from harness.live import make_view
from harness.lock import study_lock
from harness.method import Method
from harness.outcome import StudyOutcome, outcome_of
from harness.plan import Plan, make_plan
from harness.preflight import preflight
from harness.prepare import driver_device, needed, prepare_features
from harness.record import StudyRecord
from harness.recorder import TrialRecorder
from harness.schema import State
from harness.settings import SettingMaker, enumerate_settings
from harness.study_config import StudyConfig
from harness.tracking import (
    Store,
    absolute_uri,
    close_dead_runs,
    default_uri,
    open_store,
    quieten,
    store_errors,
)

if TYPE_CHECKING:
    from harness.cluster import Session
    from ship.streaming import Encode

__all__ = ["StudyOutcome", "default_cache_dir", "plan_study", "run_study"]


@dataclass(frozen=True)
class _Site:
    """Where a study runs and what it runs on."""

    study: StudyConfig
    store: Store
    experiment_id: str
    fingerprints: Fingerprints
    method: Method
    data_root: Path | None
    cache_dir: Path
    console: Console

    def outcome(self, *, interrupted: bool, ran: bool) -> StudyOutcome:
        plan = make_plan(self.study, self.ledger(), self.fingerprints)
        name, uri = self.study.name, self.store.uri
        return outcome_of(plan, name, uri, interrupted=interrupted, ran=ran)

    def ledger(self) -> Ledger:
        with store_errors(self.store.uri):
            return read_ledger(self.store.client, self.experiment_id, self.study.objective)


def default_cache_dir() -> Path:
    """$SHIP_SWEEP_CACHE, else ship-sweep in the user's cache folder."""
    named = os.environ.get("SHIP_SWEEP_CACHE")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ship-sweep"


def plan_study(
    study: StudyConfig,
    *,
    data_root: Path | None,
    tracking_uri: str | None = None,
    cache_dir: Path | None = None,
    method: Method | None = None,
    say: Say | None = None,
) -> Plan:
    """What a run of the study would do; changes nothing in the store.

    Args:
        say: told what estimating the time takes; None: the plan comes without harness.estimate's.

    Raises:
        StoreError: the store cannot be read.
        ValueError: a backbone or data set cannot be read.
    """
    directory = Path.cwd()
    uri = tracking_uri or default_uri(directory)
    store = open_store(uri, directory, create=False)
    ledger = Ledger()
    if store is not None:
        experiment_id = store.experiment(study.name)
        if experiment_id is not None:
            with store_errors(store.uri):
                ledger = read_ledger(store.client, experiment_id, study.objective)
    cache = cache_dir or default_cache_dir()
    fingerprints = Fingerprints(method or Method(), data_root, cache)
    plan = make_plan(study, ledger, fingerprints)
    if say is None:
        return plan
    return replace(plan, estimate=estimate(study, plan, ledger, fingerprints, say))


def run_study(
    study: StudyConfig,
    *,
    data_root: Path | None,
    address: str | None = None,
    verbose: bool = False,
    cache_dir: Path | None = None,
    tracking_uri: str | None = None,
    method: Method | None = None,
    console: Console | None = None,
) -> StudyOutcome:
    """Run what the study wants and its ledger does not have. The same call again is the resume.

    Args:
        study: the study.
        data_root: folder of the data sets, None if the study needs none.
        address: of a running Ray cluster; None: this machine.
        verbose: let Ray, its workers and MLflow talk.
        cache_dir: for features and fingerprints; see default_cache_dir.
        tracking_uri: of the MLflow store; see harness.tracking.default_uri.
        method: ship, unless a test puts something else in its place.
        console: where progress goes.

    Raises:
        StoreError, StudyBusy, ClusterError: one clear line each.
        ValueError: a backbone or data set cannot be read.
    """
    directory = Path.cwd()
    uri = absolute_uri(tracking_uri or default_uri(directory), directory)
    cache = cache_dir or default_cache_dir()
    method = method or Method()
    with study_lock(uri, study.name), Interrupts() as interrupts:
        store = open_store(uri, directory)
        if store is None:
            raise RuntimeError("open_store made no store")
        if verbose:
            quieten(logging.INFO)
        site = _Site(
            study,
            store,
            store.create_experiment(study.name),
            Fingerprints(method, data_root, cache),
            method,
            data_root,
            cache,
            console or Console(),
        )
        return _bring_about(site, interrupts, address, verbose)


def _bring_about(
    site: _Site, interrupts: Interrupts, address: str | None, verbose: bool
) -> StudyOutcome:
    with store_errors(site.store.uri):
        close_dead_runs(site.store.client, site.experiment_id)
    interrupted = False
    ran = False
    try:
        ledger = site.ledger()
        plan = make_plan(site.study, ledger, site.fingerprints)
        if not plan.finished:
            preflight(address, site.study.resources)
        record = StudyRecord.create(site.store, site.experiment_id, site.study)
        record.describe(site.study, plan)
        record.place_runs(ledger, plan)
        if plan.finished:
            record.settle(site.outcome(interrupted=False, ran=False).state)
        else:
            ran = True
            with _recorded(record, site):
                _run(site, plan, ledger, record, interrupts, address, verbose)
    except (KeyboardInterrupt, Exception):
        # whoever stops the study may have stopped Ray with it, which then fails in its own ways
        if not interrupts.requested:
            raise
        interrupted = True
    return site.outcome(interrupted=interrupted, ran=ran)


@contextmanager
def _recorded(record: StudyRecord, site: _Site) -> Iterator[None]:
    """The parent run is RUNNING inside, and says afterwards what the study has come to."""
    record.begin()
    try:
        yield
    except BaseException:
        record.end(State.INTERRUPTED)
        raise
    record.end(site.outcome(interrupted=False, ran=True).state)


def _run(
    site: _Site,
    plan: Plan,
    ledger: Ledger,
    record: StudyRecord,
    interrupts: Interrupts,
    address: str | None,
    verbose: bool,
) -> None:
    """Join the cluster before features are extracted, which a cluster shares out."""
    if address is None:
        _prepare_and_sweep(site, plan, ledger, record, interrupts, verbose)
        return
    from harness.cluster import ray_session
    from harness.extraction import ClusterEncoder

    resources = site.study.resources
    encoder = ClusterEncoder(resources, site.method.load_backbone, verbose)
    with ray_session(site.study, address, 0, verbose) as session:
        interrupts.install()
        _prepare_and_sweep(site, plan, ledger, record, interrupts, verbose, session, encoder)


def _prepare_and_sweep(
    site: _Site,
    plan: Plan,
    ledger: Ledger,
    record: StudyRecord,
    interrupts: Interrupts,
    verbose: bool,
    joined: "Session | None" = None,
    encode: "Encode | None" = None,
) -> None:
    """Without a cluster, Ray starts after the extraction: its store is as large as the features."""
    study = site.study
    features = prepare_features(
        needed(study, plan),
        site.fingerprints,
        site.method,
        site.data_root,
        site.cache_dir,
        site.console,
        driver_device(study.resources.gpus),
        encode,
    )
    # a remembered fingerprint may turn out to be of other weights
    replanned = make_plan(study, ledger, site.fingerprints)
    if replanned != plan:
        plan = replanned
        record.describe(study, plan)
    # Ray takes two seconds to import, which a finished study need not spend
    from harness.cluster import ray_session, slots
    from harness.fuse_policy import fuse_policy
    from harness.fusing import Pruned
    from harness.monitor import Monitor
    from harness.searcher import StudySearcher
    from harness.sweep import array_bytes, sweep

    maker = SettingMaker(study, site.fingerprints)
    spare = enumerate_settings(study, maker) if plan.proposals else []
    recorder = TrialRecorder(site.store, site.experiment_id, record, study, site.fingerprints)
    seeds = sum(len(work.seeds) for work in plan.work) + plan.proposals * len(study.seeds)
    view = make_view(site.console, seeds, len(plan.work) + plan.proposals)
    local = ray_session(study, None, array_bytes(features), verbose)
    with nullcontext(joined) if joined else local as session, view:
        stop = KeyboardInterrupt if session.owned else SweepStopped
        pruned = Pruned()
        policy = fuse_policy(study, slots(study))
        searcher = StudySearcher(study, plan, ledger, maker, spare, policy, pruned)
        monitor = Monitor(
            searcher.group,
            pruned,
            recorder,
            view,
            study.objective,
            study.time_limit,
            lambda: interrupts.check(stop),
        )
        with interrupts.deferred():
            try:
                sweep(study, searcher, monitor, features, site.method, pruned)
            finally:
                monitor.close()
