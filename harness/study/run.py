"""Brings a study to what its YAML says: runs what is missing, and says what became of it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from harness.checkpoints import storage_uri
from harness.config import StudyConfig
from harness.environment import environment
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
    StoreAway,
    StoreError,
    StudyLost,
    Timing,
    absolute_uri,
    again,
    close_dead_runs,
    default_uri,
    find_study_run,
    own_study,
    quieten,
)
from harness.study.context import OpenStudy, default_cache_dir, study_storage
from harness.study.execution import Execution
from harness.study.interrupts import Interrupts
from harness.study.preview import read_plan
from harness.study.rounds import rounds_of, run_rounds
from reports.contract import Publication, ReportError, State

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
    detect: float | None = None,
    max_seeds: int | None = None,
    path: bool = False,
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
        storage: where checkpoints lie; see harness.checkpoints.storage_uri.
        tracking_uri: of the MLflow store; see harness.store.open.default_uri.
        detect: points that a difference matters from: seeds are given out until it is decided which
            settings differ from the baseline by as much; see harness.study.detect.
        max_seeds: of a setting, with detect.
        path: whether to run then what the path to the preferred setting lacks; see
            harness.study.rounds.
        method: ship, unless a test puts something else in its place.
        console: where progress goes.
        consent: whether finished rows may leave the table; None: they may not.
        timing: of the lease that keeps other hosts away.
        before: called before a study that has runs already is changed and run on.
        publish: what the study's own run is to show of an outcome, None for nothing; it is asked
            once all that was run is in the store, and may raise ReportError.

    Raises:
        ConfigError: detect or path cannot be asked of the study.
        StoreError, StudyBusy, StudyChanged, StudyLost, ClusterError, StorageError: one clear
            message each.
        StoreAway: the store does not answer; what it lacks waits on disk for the next call.
        ValueError: a backbone or data set cannot be read.
        KeyboardInterrupt: interrupted while the store was away, so that there is no outcome.
    """
    uri = absolute_uri(tracking_uri or default_uri(Path.cwd()), Path.cwd())
    prints = Fingerprints(method or Method(), data_root, cache_dir or default_cache_dir())
    console = console or SteadyConsole()
    say = line_printer(console)
    remove_left()

    def run_round(study: StudyConfig) -> StudyOutcome:
        with (
            _interrupts() as interrupts,
            environment(CLIENT_ENVIRONMENT),
            own_study(
                uri, study.name, prints.cache_dir, timing or Timing(), interrupts.fail, say
            ) as own,
        ):
            if verbose:
                quieten(logging.INFO)
            opened = OpenStudy(
                study,
                own.store,
                own.experiment_id,
                prints,
                study_storage(storage_uri(storage, prints.cache_dir), own.store, own.experiment_id),
                console,
                consent or Consent(),
                interrupts,
                address,
                in_process,
                verbose,
            )
            outcome = _bring_about(opened, own.become_last_driver, before)
            if publish is None or not outcome.done or outcome.interrupted:
                return outcome
            return replace(outcome, unpublished=_show(opened, publish, outcome))

    next_round = rounds_of(
        study,
        lambda study: read_plan(study, uri, prints)[0],
        uri,
        detect=detect,
        max_seeds=max_seeds,
        path=path,
    )
    return run_rounds(next_round, run_round, say)


@contextmanager
def _interrupts() -> Iterator[Interrupts]:
    """Signals are caught inside; a study that is stopped from another thread raises why."""
    interrupts = Interrupts()
    try:
        with interrupts:
            yield interrupts
    except (KeyboardInterrupt, SystemExit, Exception):
        if interrupts.failure is not None:
            raise interrupts.failure from None
        raise


def _show(opened: OpenStudy, publish: Publish, outcome: StudyOutcome) -> str:
    """Show the report at the study's own run; where that fails, why: the study is as it was.

    Nothing is made here that a second request would make twice, and no trial waits: each request
    is made again as ship-report does, and what is cut off in mid answer a few times as a whole.
    """
    try:
        with environment(RETRIES, over=True):
            made = again(opened.store.uri, lambda: publish(outcome))
            run_id = find_study_run(opened.store, opened.experiment_id)
            if made is not None and run_id is not None:
                show_report(opened.store, run_id, made)
    except (StoreError, ReportError) as error:
        return f"the report is not in MLflow yet, the same command writes it: {error}"
    return ""


def _bring_about(
    opened: OpenStudy, become_last_driver: Callable[[], None], before: Before | None
) -> StudyOutcome:
    store, interrupts = opened.store, opened.interrupts
    interrupted = ran = False
    try:
        ledger = opened.ledger()
        plan = opened.plan(ledger)
        opened.check_consent(ledger, plan)
        if not plan.finished:
            preflight(opened.address, opened.study.resources)
            if opened.study.checkpoint_every is not None:
                opened.storage.check()
        become_last_driver()
        if store.read(lambda client: close_dead_runs(client, opened.experiment_id)):
            ledger = opened.ledger()
            plan = opened.plan(ledger)
        if before is not None and ledger.runs and not plan.finished:
            before(opened.study.name, store.uri)
        record = StudyRecord.create(store, opened.experiment_id, opened.study)
        record.describe(opened.study, plan)
        record.place_runs(ledger, plan)
        if plan.finished:
            outcome = opened.outcome(plan)
            record.set_final_state(outcome.state)
            return outcome
        ran = True
        with _recorded(record, opened):
            Execution(opened, plan, ledger, record).run()
    except (KeyboardInterrupt, SystemExit, Exception) as error:
        # whoever stops the study may have stopped Ray with it, which then fails in its own ways;
        # while Ray starts, its own handler of SIGTERM makes it a SystemExit
        asked = interrupts.requested or isinstance(error, SystemExit)
        if interrupts.failure is not None:  # told of as it is, wherever it struck
            raise interrupts.failure from None
        if not asked:
            raise
        interrupted = True
        store.hurry()
        # a signal may have struck between a run's first write and the place that ends it
        with suppress(StoreAway):  # whoever runs the study next closes it
            store.read(lambda client: close_dead_runs(client, opened.experiment_id, INTERRUPTED))
    try:
        outcome = opened.outcome(interrupted=interrupted, ran=ran)
    except StoreAway:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    if ran and outcome.complete:
        opened.storage.forget()
    return outcome


@contextmanager
def _recorded(record: StudyRecord, opened: OpenStudy) -> Iterator[None]:
    """The parent run is RUNNING inside, and says afterwards what the study has come to."""
    record.begin()
    try:
        yield
        state = opened.outcome(ran=True).state
    except BaseException:
        with suppress(StudyLost):  # the study's run is another driver's
            record.end(State.INTERRUPTED)
        raise
    record.end(state)
