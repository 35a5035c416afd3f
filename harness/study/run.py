"""Run a study: all configurations and seeds that the store does not have yet."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from harness import planning, resources, store
from harness.checkpoints import Storage, resolve_storage_uri
from harness.config import StudyConfig
from harness.errors import ConfigError, UserError, find_ray_address_fault
from harness.machine import remove_stale_folders, set_environment
from harness.method import MethodFunctions
from harness.planning import Fingerprints, Plan, ReusedRun, StudyOutcome, refuse_changes
from harness.progress import SteadyConsole
from harness.recording import (
    ParentRun,
    TrialRecorder,
    publish_report,
    record_reused,
    write_differences,
)
from harness.store import Publication, State, StudyStore, Timing
from harness.study.features import make_fingerprints
from harness.study.interrupts import Interrupts
from harness.study.state import StudyState, get_source_name, load_plugins_and_study, read_state
from harness.study.trials import RunOptions, TrialRunner

# Function that builds the report of a study's outcome, or returns None for no report.
ReportBuilder = Callable[[StudyOutcome], Publication | None]
# Environment while the report is written: MLflow retries each request twice. While trials run, its
# own retries are off (harness.store.open).
REPORT_ENVIRONMENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


def run_study(
    space: str | Path | Mapping[str, Any] | StudyConfig,
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str | Path] = (),
    data_root: Path | str | None = None,
    address: str | None = None,
    in_process: bool = False,
    verbose: bool = False,
    cache_dir: Path | str | None = None,
    storage: str | None = None,
    tracking_uri: str | None = None,
    reuse: bool = True,
    accept_changes: bool = False,
    retry_non_finite: bool = False,
    method: MethodFunctions | None = None,
    console: Console | None = None,
    store_timeout: float = store.STORE_TIMEOUT,
    timing: Timing | None = None,
    publish: ReportBuilder | None = None,
) -> StudyOutcome:
    """Run the configurations and seeds of a study that the store does not have yet.

    To resume a study, make the same call again. Progress is printed as by ship-sweep. To get the
    report, load the study with `reports.load_study(outcome.experiment, outcome.tracking_uri)`.

    Args:
        space: A YAML file, the name of a packaged study, a mapping with the keys of a YAML, or a
            StudyConfig. A mapping needs the key `name`, unless `overrides` set it.
        overrides: Values of single keys, e.g. ["seeds=3", "generator.epochs=5"], as for `--set`.
            Cannot be combined with a StudyConfig.
        plugins: Python files or names of modules with custom generators, fine-tuners, datasets
            or metrics that the study may use. They are imported, and stay registered in this
            process.
        data_root: Folder of the datasets. None if the study needs none.
        address: Address of a running Ray cluster (HOST:PORT or "auto"). Defaults to a Ray that is
            started on this machine.
        in_process: Whether to run one trial after the other in this process, without Ray workers,
            so that a debugger stops in a custom method. Numbers and the store's content are the
            same.
        verbose: Whether to show the messages of Ray, its workers and MLflow.
        cache_dir: Folder of cached features and checkpoints. Defaults to $SHIP_SWEEP_CACHE, or to
            ship-sweep in the user's cache folder.
        storage: Folder or URI for checkpoints of running trials; see ship-sweep --storage.
        tracking_uri: Address of the MLflow store. Defaults to MLFLOW_TRACKING_URI, or to
            ./mlflow.db.
        reuse: Whether to reuse results of identical configurations from other studies of the store.
        accept_changes: Whether to rerun configurations whose constants, data or weights have
            changed, and to drop their old results from the report. By default, StudyChanged is
            raised for such a study.
        retry_non_finite: Whether to retry seeds that failed because a loss, logit or synthetic
            feature was NaN or infinite. On a GPU the failure may not recur.
        method: Functions of the method. Defaults to ship; tests replace them.
        console: Console that shows the progress. Defaults to a new one.
        store_timeout: Seconds that a running study waits for a store that does not answer.
        timing: Timing of the lease that keeps other hosts from running the study. Defaults to
            `Timing()`.
        publish: Function that builds the report from the outcome, or returns None for no report.
            The report is written to the study's own run in MLflow. The function is called after all
            results are in the store, and may raise UserError. Defaults to no report.

    Returns:
        Outcome of the study: counts of configurations, whether it is complete, and its location
        in the store. After Ctrl-C or SIGTERM, `interrupted` is True.

    Raises:
        harness.errors.UserError: The YAML or the data is wrong, or the store or the cluster cannot
            be used. The message lists the faults; some are found only after others are fixed. The
            next four errors are subclasses.
        harness.planning.changes.StudyChanged: Configurations with results have changed, and
            `accept_changes` is False.
        harness.store.StoreUnavailable: The store did not answer for `store_timeout` seconds. Make
            the same call again to resume the study.
        harness.store.StudyLost: Another driver has taken over the study.
        harness.errors.RayLost: Ray has died. Make the same call again to resume the study.
        ValueError: A backbone or dataset cannot be read.
        KeyboardInterrupt: Interrupted while the store did not answer, so there is no outcome. Or
            interrupted while the report was built or written: all results are in the store, and the
            same call writes the report.

    Example:
        >>> outcome = run_study("prompt_len", ["seeds=3"])  # doctest: +SKIP
        >>> outcome.complete, outcome.done  # doctest: +SKIP
        (True, 9)
    """
    address = None if address in ("", "local") else address
    if address is not None and (fault := find_ray_address_fault(address)):
        raise ConfigError([fault])
    if address is not None and in_process:
        raise ConfigError(["in_process cannot be combined with address"])
    if not store_timeout >= 0:
        raise ConfigError([f"store_timeout (--store-timeout) must be >= 0, got {store_timeout:g}"])
    study = load_plugins_and_study(space, overrides, plugins, data_root)
    uri = store.resolve_store_uri(tracking_uri)
    fingerprints = make_fingerprints(study, method, data_root, cache_dir)
    console = console or SteadyConsole()
    retry_before = store.get_time_ms() if retry_non_finite else 0
    options = RunOptions(
        console=console,
        accept_changes=accept_changes,
        address=address,
        in_process=in_process,
        verbose=verbose,
        reuse=reuse,
        retry_before=retry_before,
    )
    storage_uri = resolve_storage_uri(storage, fingerprints.cache_dir)
    remove_stale_folders()

    with (
        Interrupts() as interrupts,
        store.open_and_lock_study(
            uri,
            study.name,
            timing or Timing(),
            store_timeout,
            fail=interrupts.fail,
            is_stopped=lambda: interrupts.requested,
            print_line=options.print_line,
        ) as study_store,
    ):
        if verbose:
            store.set_log_level(logging.INFO)
        study_storage = make_storage(storage_uri, study_store)
        runner = StudyRunner(study, study_store, fingerprints, study_storage, options, interrupts)
        outcome = runner.run()
        # a signal that arrived while the last results were written only set `requested`
        if interrupts.requested:
            outcome = replace(outcome, interrupted=True)
        if publish is None or not outcome.reportable or outcome.interrupted:
            return outcome
        return replace(outcome, unpublished=_write_report(runner, publish, outcome))


@dataclass
class StudyRunner:
    """One run of a study by a driver.

    Attributes:
        study: Study to run. Its name is the name of its experiment.
        store: Store of the study, locked for this driver. Its methods may raise StoreError.
        fingerprints: Fingerprints of data and weights, with the method and the cache folder.
        storage: Storage of the study's checkpoints.
        options: Options of the run.
        interrupts: Handler of signals that stop the study.
        parent_run: The study's own MLflow run, the parent of the trials' runs. Set by `run` after
            its checks.
    """

    study: StudyConfig
    store: StudyStore
    fingerprints: Fingerprints
    storage: Storage
    options: RunOptions
    interrupts: Interrupts
    parent_run: ParentRun = field(init=False, repr=False)

    def run(self) -> StudyOutcome:
        """Run the remaining work of the study, and return its outcome.

        Raises:
            StudyChanged: Configurations that have results were changed, so these results would
                leave the report, and `options.accept_changes` is False.
            KeyboardInterrupt: Interrupted while the store did not answer, so there is no outcome.
        """
        has_begun = False
        try:
            state = self._read_state()
            if not self.options.accept_changes:
                refuse_changes(state.find_stale_rows(), get_source_name(self.study))
            complete_runs = state.read_runs_of_other_studies() if self.options.reuse else []
            reusable_runs = planning.find_reusable_runs(self.study, state.plan, complete_runs)
            n_seeds_left = sum(len(work.seeds) for work in state.plan.work)
            n_reusable = sum(len(reused.work.seeds) for reused in reusable_runs)
            if n_seeds_left > n_reusable or state.plan.n_proposals:
                self._check_resources()
            if self.store.close_dead_runs():
                state = state.refresh()
            self.parent_run = ParentRun.get_or_create(
                self.store, self.store.experiment_id, self.study
            )
            self.parent_run.describe(self.study, state.plan)
            has_changed = self.parent_run.update_trial_tags(state.history, state.plan)
            if state.plan.finished:
                state = state.refresh() if has_changed else state  # the report needs the new tags
                outcome = self._make_outcome(state)
                self.parent_run.end(outcome.state)
                # an earlier driver may have been killed before it removed the checkpoints
                self.storage.remove()
                return outcome
            has_begun = True
            outcome = self._run_plan(state, reusable_runs)
        except (KeyboardInterrupt, Exception):
            # The failure that ended the study takes precedence over errors that it caused in Ray.
            if self.interrupts.failure is not None:
                raise self.interrupts.failure from None
            if not self.interrupts.requested:
                raise
            return self._close_interrupted(ran=has_begun)
        if outcome.complete:
            self.storage.remove()
        return outcome

    def _read_state(self) -> StudyState:
        """Read the study's state from the store.

        Raises:
            StoreError: The store cannot be read.
        """
        retry_before = self.options.retry_before
        return read_state(self.study, self.fingerprints, self.store, retry_before)

    def _close_interrupted(self, *, ran: bool) -> StudyOutcome:
        """Mark runs that are still RUNNING as interrupted, and return the study's outcome.

        Args:
            ran: Whether any work was begun.

        Raises:
            KeyboardInterrupt: The store did not answer. The next driver closes the runs.
        """
        try:
            # a signal may arrive when a run was created but is not yet known to the recorder
            self.store.close_dead_runs(store.INTERRUPTED)
            state = self._read_state()
            return replace(self._make_outcome(state), interrupted=True, ran=ran)
        except store.StoreUnavailable:
            raise KeyboardInterrupt from None

    def _check_resources(self) -> None:
        """Check that a trial can run here or on the cluster, and can write its checkpoints.

        Raises:
            ClusterError: The cluster does not answer, or this machine lacks what a trial needs.
            StorageError: Checkpoints cannot be written.
        """
        resources.check_resources(self.options.address, self.study.resources)
        if self.study.checkpoint_every is not None:
            self.storage.check()

    def _make_outcome(self, state: StudyState) -> StudyOutcome:
        """Return the study's outcome, which counts the configurations of its current plan."""
        plan = state.plan
        return StudyOutcome(
            done=sum(row.state == "done" for row in plan.rows),
            failed=sum(bool(row.reason) for row in plan.rows),
            pruned=sum(row.state == "pruned" for row in plan.rows),
            missing=sum(bool(row.seeds) and not row.reason for row in plan.rows) + plan.n_proposals,
            experiment=self.study.name,
            tracking_uri=self.store.uri,
            final=plan.finished,
            failed_seeds=sum(len(row.failed) for row in plan.rows),
            n_partial=sum(bool(row.reason and row.done) for row in plan.rows),
            history=state.history,
        )

    def _run_plan(self, state: StudyState, reusable_runs: list[ReusedRun]) -> StudyOutcome:
        """Copy reused results, run the plan and the controls, and return the outcome.

        The study's own run is RUNNING during this call. Afterwards it has the state of the outcome,
        or INTERRUPTED if an exception is raised.
        """
        self.parent_run.begin()
        try:
            if reusable_runs:
                state = self._record_reused(state, reusable_runs)
            ran = not state.plan.finished
            if ran:
                state = self._run_controls(self._run_trials(state), state.plan)
            outcome = replace(self._make_outcome(state), ran=ran)
        except BaseException:
            # StudyLost: the run now belongs to another driver.
            # StoreUnavailable: the next driver will close the run.
            with suppress(store.StudyLost, store.StoreUnavailable):
                self.parent_run.end(State.INTERRUPTED)
            raise
        self.parent_run.end(outcome.state)
        return outcome

    def _run_trials(self, state: StudyState) -> StudyState:
        """Run the trials that are left in the plan, and return the study's state afterwards."""
        TrialRunner(state, self.parent_run, self.storage, self.options, self.interrupts).run()
        return state.refresh()

    def _run_controls(self, state: StudyState, previous_plan: Plan) -> StudyState:
        """Run controls that the previous plan did not have yet.

        With a sampler, these are the controls at the levels of the best configuration, which is
        known only after the last proposal.

        Args:
            state: Current state of the study.
            previous_plan: Plan that has just been run. Its failed trials are not retried.

        Returns:
            The study's state afterwards.
        """
        plan = state.plan
        planned_keys = {configuration.key for configuration in previous_plan.configurations}
        candidates = (*plan.configurations, *plan.duplicate_controls)
        new_control_keys = {
            configuration.key for configuration in candidates if configuration.control
        } - planned_keys
        if not new_control_keys or self.interrupts.requested:
            return state
        self.parent_run.describe(self.study, plan)
        rows = tuple(
            row if row.configuration.key in new_control_keys else replace(row, seeds=())
            for row in plan.rows
        )
        controls_plan = replace(plan, rows=rows, n_proposals=0)
        if controls_plan.finished:
            return state
        return self._run_trials(replace(state, plan=controls_plan))

    def _record_reused(self, state: StudyState, reusable_runs: list[ReusedRun]) -> StudyState:
        """Copy results of other studies into this study, and return its state afterwards.

        Results whose files cannot be read are not copied. They have to be computed again.
        """
        recorder = TrialRecorder(self.parent_run, self.study, self.fingerprints)
        copied_runs = [reused for reused in reusable_runs if record_reused(recorder, reused)]
        for line in planning.format_reuse(copied_runs):
            self.options.print_line(line)
        if len(copied_runs) < len(reusable_runs):  # trials have to compute the other results
            self._check_resources()
        return state.refresh()


def _write_report(runner: StudyRunner, build_report: ReportBuilder, outcome: StudyOutcome) -> str:
    """Build the report, and write it to the study's runs in MLflow.

    A failure does not change the outcome of the study. MLflow's own retries are on, because these
    requests may be repeated and no trial waits for them.

    Returns:
        Why the report could not be written, as text. "" if it was written or there is none.
    """
    try:
        with set_environment(REPORT_ENVIRONMENT, override=True):
            publication = store.retry_requests(runner.store.uri, lambda: build_report(outcome))
            if publication is not None:
                publish_report(runner.store, runner.parent_run.run_id, publication)
                write_differences(runner.store, outcome.history.all_runs, publication.differences)
    except UserError as error:
        return f"cannot write the report to MLflow: {error}. Run the same command to try again"
    return ""


def make_storage(uri: str, study_store: StudyStore) -> Storage:
    """Return the storage of a study's checkpoints: a folder that no other study of any store uses.

    The folder is named after the creation time (in milliseconds) and the ID of the experiment. The
    store's address would not identify the study: a store can have several addresses, and a new
    store can have the address of a deleted one.

    Args:
        uri: Address of the storage that all studies share.
        study_store: Store of the study.
    """
    experiment_id = study_store.experiment_id
    experiment = study_store.read(lambda client: client.get_experiment(experiment_id))
    return Storage(uri, f"{experiment.creation_time}-{experiment_id}")
