"""Brings a study to what its YAML says: runs what is missing, and says what became of it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from harness.checkpoint_storage import storage_uri
from harness.config import StudyConfig
from harness.environment import environment, replaced_environment
from harness.method import Method
from harness.planning import Consent, Fingerprints, StudyOutcome
from harness.progress import SteadyConsole, line_printer
from harness.recording import StudyRecord
from harness.recording import publish as show_report
from harness.resources import preflight
from harness.scratch import remove_left
from harness.store import (
    CLIENT_ENVIRONMENT,
    INTERRUPTED,
    Hold,
    StoreAway,
    StoreError,
    StudyLost,
    Timing,
    absolute_uri,
    again,
    close_dead_runs,
    default_uri,
    outbox,
    quieten,
)
from harness.study.context import Site, default_cache_dir, study_storage
from harness.study.execution import Execution
from harness.study.interrupts import Interrupts
from harness.worker import forget_all
from reports.contract import Publication, ReportError, State

__all__ = ["StudyOutcome", "run_study"]

Before = Callable[[str, str], None]  # takes the study's name and the store's URI
Publish = Callable[[StudyOutcome], Publication | None]
RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


def run_study(
    study: StudyConfig,
    *,
    data_root: Path | None,
    address: str | None = None,
    in_process: bool = False,
    verbose: bool = False,
    cache_dir: Path | None = None,
    storage: str | None = None,
    tracking_uri: str | None = None,
    method: Method | None = None,
    console: Console | None = None,
    consent: Consent | None = None,
    timing: Timing | None = None,
    before: Before | None = None,
    publish: Publish | None = None,
) -> StudyOutcome:
    """Run what the study wants and its ledger does not have. The same call again is the resume.

    Args:
        study: the study.
        data_root: folder of the data sets, None if the study needs none.
        address: of a running Ray cluster; None: this machine.
        in_process: run one trial after the other in this process, without Ray's.
        verbose: let Ray, its workers and MLflow talk.
        cache_dir: for features and fingerprints; see default_cache_dir.
        storage: where checkpoints lie; see harness.checkpoint_storage.storage_uri.
        tracking_uri: of the MLflow store; see harness.store.open.default_uri.
        method: ship, unless a test puts something else in its place.
        console: where progress goes.
        consent: whether finished rows may leave the table; None: they may not.
        timing: of the lease that keeps other hosts away.
        before: called before a study that has runs already is changed and run on.
        publish: what the study's own run is to show of an outcome, None for nothing; it is asked
            once all that was run is in the store, and may raise ReportError.

    Raises:
        StoreError, StudyBusy, StudyChanged, StudyLost, ClusterError, StorageError: one clear
            message each.
        StoreAway: the store does not answer; what it lacks waits on disk for the next call.
        ValueError: a backbone or data set cannot be read.
        KeyboardInterrupt: interrupted while the store was away, so that there is no outcome.
    """
    directory = Path.cwd()
    uri = absolute_uri(tracking_uri or default_uri(directory), directory)
    cache = cache_dir or default_cache_dir()
    method = method or Method()
    console = console or SteadyConsole()
    say = line_printer(console)
    remove_left()
    interrupts = Interrupts()
    with _told_why(interrupts), interrupts, environment(CLIENT_ENVIRONMENT):
        hold = Hold(uri, directory, timing or Timing(), interrupts.fail, say)
        with (
            hold.study(study.name) as held,
            outbox(held.store, study.name, held.experiment_id, cache, say, held.drivers) as store,
        ):
            if verbose:
                quieten(logging.INFO)
            site = Site(
                study,
                store,
                held.experiment_id,
                Fingerprints(method, data_root, cache),
                method,
                data_root,
                cache,
                study_storage(storage_uri(storage, cache), store, held.experiment_id),
                console,
                consent or Consent(),
            )
            become = held.become_last_driver
            here = Execution.in_process if in_process else Execution.here
            outcome = _bring_about(site, interrupts, address, here, verbose, become, before)
            if publish is not None and outcome.done and not outcome.interrupted:
                return replace(outcome, unpublished=_show(site, publish, outcome))
            return outcome


def _show(site: Site, publish: Publish, outcome: StudyOutcome) -> str:
    """Show the report at the study's own run; where that fails, why: the study is as it was.

    Nothing is made here that a second request would make twice, and no trial waits: each request
    is made again as ship-report does, and what is cut off in mid answer a few times as a whole.
    """
    try:
        with replaced_environment(RETRIES):
            made = again(site.store.uri, lambda: publish(outcome))
            record = StudyRecord.find(site.store, site.experiment_id)
            if made is not None and record is not None:
                show_report(site.store, record.run_id, made)
    except (StoreError, ReportError) as error:
        return f"the report is not in MLflow yet, the same command writes it: {error}"
    return ""


@contextmanager
def _told_why(interrupts: Interrupts) -> Iterator[None]:
    """A study that was lost to another driver is stopped as by Ctrl-C, but that is not why."""
    try:
        yield
    except KeyboardInterrupt:
        if interrupts.failure is not None:
            raise interrupts.failure from None
        raise


def _bring_about(
    site: Site,
    interrupts: Interrupts,
    address: str | None,
    here: Callable[[Execution], None],
    verbose: bool,
    become_last_driver: Callable[[], None],
    before: Before | None,
) -> StudyOutcome:
    interrupted = False
    ran = False
    try:
        ledger = site.ledger()
        plan = site.plan(ledger)
        site.check_consent(ledger, plan)
        if not plan.finished:
            preflight(address, site.study.resources)
            if site.study.checkpoint_every is not None:
                site.storage.check()
        become_last_driver()
        if site.store.read(lambda client: close_dead_runs(client, site.experiment_id)):
            ledger = site.ledger()
            plan = site.plan(ledger)
        if before is not None and ledger.runs and not plan.finished:
            before(site.study.name, site.store.uri)
        record = StudyRecord.create(site.store, site.experiment_id, site.study)
        record.describe(site.study, plan)
        record.place_runs(ledger, plan)
        if plan.finished:
            outcome = site.outcome(plan)
            record.set_final_state(outcome.state)
            return outcome
        ran = True
        with _recorded(record, site):
            execution = Execution(site, plan, ledger, record, interrupts, verbose)
            here(execution) if address is None else execution.on_cluster(address)
    except (KeyboardInterrupt, SystemExit, Exception) as error:
        if interrupts.failure is not None:
            raise interrupts.failure from None
        # whoever stops the study may have stopped Ray with it, which then fails in its own ways;
        # while Ray starts, its own handler of SIGTERM makes it a SystemExit
        if not interrupts.requested and not isinstance(error, SystemExit):
            raise
        interrupted = True
        site.store.hurry()
        _close_what_runs(site)
    try:
        outcome = site.outcome(interrupted=interrupted, ran=ran)
    except StoreAway:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    if ran and outcome.complete:
        forget_all(site.storage)
    return outcome


def _close_what_runs(site: Site) -> None:
    """A signal may have struck between a run's first write and the place that ends it."""
    with suppress(StoreAway):  # whoever runs the study next closes it
        site.store.read(lambda client: close_dead_runs(client, site.experiment_id, INTERRUPTED))


@contextmanager
def _recorded(record: StudyRecord, site: Site) -> Iterator[None]:
    """The parent run is RUNNING inside, and says afterwards what the study has come to."""
    record.begin()
    try:
        yield
        state = site.outcome(ran=True).state
    except BaseException:
        with suppress(StudyLost):  # the study's run is another driver's
            record.end(State.INTERRUPTED)
        raise
    record.end(state)
