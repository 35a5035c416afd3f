"""Brings a study to what its YAML says: runs what is missing, and says what became of it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from harness import planning, resources, store
from harness.checkpoints import Storage, storage_uri
from harness.config import StudyConfig
from harness.errors import ConfigError, UserError, address_fault
from harness.machine import environment, remove_left
from harness.method import Method
from harness.planning import Adoption, Fingerprints, Plan, StudyOutcome, refuse_changes
from harness.progress import SteadyConsole
from harness.recording import StudyRun, TrialRecorder, adopt
from harness.recording import publish as show_report
from harness.store import Publication, State, StudyStore, Timing
from harness.study.features import fingerprints_of
from harness.study.interrupts import Interrupts
from harness.study.standing import Standing, read_standing, source_of, typed_study
from harness.study.trials import Options, Trials

Publish = Callable[[StudyOutcome], Publication | None]
RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


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
    method: Method | None = None,
    console: Console | None = None,
    store_timeout: float = store.STORE_TIMEOUT,
    timing: Timing | None = None,
    publish: Publish | None = None,
) -> StudyOutcome:
    """Run whatever a study wants and the store does not have. The same call again is the resume.

    Progress is printed as the command prints it. The report is not made: read the study with
    `reports.load_study(outcome.experiment, outcome.tracking_uri)`.

    Args:
        space: a YAML file, the name of a packaged study, a mapping with the keys of a YAML (`name`
            among them, or among the overrides), or a study that has been read.
        overrides: as of --set, e.g. ["seeds=3", "generator.epochs=5"].
        plugins: Python files or names of modules with custom generators, fine-tuners or datasets
            that the study may name; they are run, and stay known to this process.
        data_root: folder of the data sets, None if the study needs none.
        address: of a running Ray cluster (HOST:PORT or "auto"); None: this machine.
        in_process: run one trial after the other in this process, without Ray's, so that a debugger
            stops in a method of one's own; the store and the numbers are the same.
        verbose: let Ray, its workers and MLflow talk.
        cache_dir: for features and checkpoints.
        storage: where checkpoints of running trials lie; see ship-sweep --storage.
        tracking_uri: of the MLflow store; None: MLFLOW_TRACKING_URI, else ./mlflow.db.
        reuse: whether seeds that other studies of the store have finished, of the very same
            settings, are taken from there, and not run.
        accept_changes: Run settings again whose constants, data or weights have changed, though
            finished rows leave the table. Otherwise such a study is refused.
        retry_non_finite: Run seeds again that failed as a loss, logit or synthetic feature was NaN
            or infinite; on a GPU that need not recur.
        method: ship, unless a test puts something else in its place.
        console: where progress goes.
        store_timeout: Seconds for which a study that runs waits for a store that does not answer.
        timing: of the lease that keeps other hosts away.
        publish: what the study's own run is to show of an outcome, None for nothing; it is asked
            once all that was run is in the store, and may raise UserError.

    Returns:
        What the study has come to: counts of settings, whether it is complete, and where it is.

    Raises:
        harness.errors.UserError: a mistake in the YAML or the data, a store or a cluster that
            cannot be used; one clear message with every fault. Among them StoreAway: the store did
            not answer for `store_timeout` seconds; the same call resumes the study.
        ValueError: a backbone or data set cannot be read.
        KeyboardInterrupt: interrupted while the store was away, so that there is no outcome.
    """
    address = None if address in ("", "local") else address
    if address is not None and (fault := address_fault(address)):
        raise ConfigError([fault])
    if address is not None and in_process:
        raise ConfigError(["in_process must come without address"])
    if not store_timeout >= 0:
        raise ConfigError([f"store_timeout (--store-timeout) must be >= 0, got {store_timeout:g}"])
    study = typed_study(space, overrides, plugins, data_root)
    uri = store.store_uri(tracking_uri)
    prints = fingerprints_of(study, method, data_root, cache_dir)
    console = console or SteadyConsole()
    retry_before = store.now() if retry_non_finite else 0
    options = Options(console, accept_changes, address, in_process, verbose, reuse, retry_before)
    checkpoints = storage_uri(storage, prints.cache_dir)
    remove_left()

    with (
        Interrupts() as interrupts,
        store.own_study(
            uri,
            study.name,
            timing or Timing(),
            store_timeout,
            fail=interrupts.fail,
            stopped=lambda: interrupts.requested,
            say=options.say,
        ) as own,
    ):
        if verbose:
            store.quieten(logging.INFO)
        place = study_storage(checkpoints, own)
        execution = Execution(study, own, prints, place, options, interrupts)
        outcome = execution.bring_about()
        if interrupts.requested:  # a signal that came as the sweep ended was only noted
            outcome = replace(outcome, interrupted=True)
        if publish is None or not outcome.reportable or outcome.interrupted:
            return outcome
        return replace(outcome, unpublished=_show(execution, publish, outcome))


@dataclass
class Execution:
    """One run of a study.

    study: its name is its experiment's.
    store: of the study, where nobody else writes; methods may raise StoreError.
    fingerprints: of its data and weights, with the method and the cache folder.
    storage: of its checkpoints.
    options: how it is to be run.
    interrupts: whether somebody stops it.
    record: of the study's own run, from the first write on.
    """

    study: StudyConfig
    store: StudyStore
    fingerprints: Fingerprints
    storage: Storage
    options: Options
    interrupts: Interrupts

    def bring_about(self) -> StudyOutcome:
        """Run what is left, and say what the study has come to.

        Raises:
            StudyChanged: finished rows would leave the table, which is not accepted.
            KeyboardInterrupt: interrupted while the store was away, so that there is no outcome.
        """
        ran = False
        try:
            standing = self._read_standing()
            if not self.options.accept_changes:
                refuse_changes(standing.changes(), source_of(self.study))
            known = standing.elsewhere() if self.options.reuse else []
            adoptable = planning.adoptions(self.study, standing.plan, known)
            left = sum(len(work.seeds) for work in standing.plan.work)
            if left > sum(len(one.work.seeds) for one in adoptable) or standing.plan.proposals:
                self._check_places()
            if self.store.close_dead_runs():
                standing = standing.again()
            self.record = StudyRun.create(self.store, self.store.experiment_id, self.study)
            self.record.describe(self.study, standing.plan)
            has_changed = self.record.place_runs(standing.ledger, standing.plan)
            if standing.plan.finished:
                standing = standing.again() if has_changed else standing  # for its report
                outcome = self._outcome(standing)
                self.record.end(outcome.state)
                return outcome
            ran = True
            outcome = self._run_on_record(standing, adoptable)
        except (KeyboardInterrupt, Exception):
            # whoever stops the study may have stopped Ray with it, which then fails in its own ways
            if self.interrupts.failure is not None:  # told of as it is, wherever it struck
                raise self.interrupts.failure from None
            if not self.interrupts.requested:
                raise
            return self._interrupted(ran=ran)
        if outcome.complete:
            self.storage.forget()
        return outcome

    def _read_standing(self) -> Standing:
        """Read how the study stands.

        Raises:
            StoreError: The store cannot be read.
        """
        retry_before = self.options.retry_before
        return read_standing(self.study, self.fingerprints, self.store, retry_before)

    def _interrupted(self, *, ran: bool) -> StudyOutcome:
        """What has become of a study that somebody stopped, once nothing of it is RUNNING."""
        try:
            # a signal may have struck between a run's first write and the place that ends it
            self.store.close_dead_runs(store.INTERRUPTED)
            standing = self._read_standing()
            return replace(self._outcome(standing), interrupted=True, ran=ran)
        except store.StoreAway:  # whoever runs the study next closes it
            raise KeyboardInterrupt from None

    def _check_places(self) -> None:
        """Raise a UserError where trials could not run, or not leave their checkpoints."""
        resources.preflight(self.options.address, self.study.resources)
        if self.study.checkpoint_every is not None:
            self.storage.check()

    def _outcome(self, standing: Standing) -> StudyOutcome:
        """What the study has come to, by its plan as it is now, counted in settings."""
        plan = standing.plan
        return StudyOutcome(
            done=sum(row.state == "done" for row in plan.rows),
            failed=sum(bool(row.reason) for row in plan.rows),
            pruned=sum(row.state == "pruned" for row in plan.rows),
            missing=sum(bool(row.seeds) and not row.reason for row in plan.rows) + plan.proposals,
            experiment=self.study.name,
            tracking_uri=self.store.uri,
            final=plan.finished,
            failed_seeds=sum(len(row.failed) for row in plan.rows),
            partly=sum(bool(row.reason and row.done) for row in plan.rows),
            ledger=standing.ledger,
        )

    def _run_on_record(self, standing: Standing, adoptable: list[Adoption]) -> StudyOutcome:
        """Run the plan; the study's own run is RUNNING meanwhile, and then says what came of it."""
        self.record.begin()
        try:
            if adoptable:
                standing = self._adopt(standing, adoptable)
            ran = not standing.plan.finished
            if ran:
                standing = self._run_controls(self._run_trials(standing), standing.plan)
            outcome = replace(self._outcome(standing), ran=ran)
        except BaseException:
            # the study's run is another driver's, or the next driver closes it
            with suppress(store.StudyLost, store.StoreAway):
                self.record.end(State.INTERRUPTED)
            raise
        self.record.end(outcome.state)
        return outcome

    def _run_trials(self, standing: Standing) -> Standing:
        """Run what is left of a study, and return how it stands then."""
        Trials(standing, self.record, self.storage, self.options, self.interrupts).run()
        return standing.again()

    def _run_controls(self, standing: Standing, before: Plan) -> Standing:
        """Run the controls at the levels of the best configuration, known once a sampler has ended.

        Args:
            standing: How the study stands now.
            before: What was planned, and has run. Trials that failed are left to the next run.
        """
        plan = standing.plan
        planned = {setting.key for setting in before.settings}
        controls = {one.key for one in (*plan.settings, *plan.equal_arms) if one.arm} - planned
        if not controls or self.interrupts.requested:
            return standing
        self.record.describe(self.study, plan)
        rows = tuple(
            row if row.setting.key in controls else replace(row, seeds=()) for row in plan.rows
        )
        left = replace(plan, rows=rows, proposals=0)
        return standing if left.finished else self._run_trials(replace(standing, plan=left))

    def _adopt(self, standing: Standing, adoptable: list[Adoption]) -> Standing:
        """Take over what other studies have finished; how the study stands then."""
        recorder = TrialRecorder(self.record, self.study, self.fingerprints)
        written = [one for one in adoptable if adopt(recorder, one)]
        for line in planning.adoption_lines(written):
            self.options.say(line)
        if len(written) < len(adoptable):  # what could not be taken over runs here
            self._check_places()
        return standing.again()


def _show(execution: Execution, publish: Publish, outcome: StudyOutcome) -> str:
    """Show the report at the study's own run; where that fails, why: the study is as it was.

    Nothing is made here that a second request would make twice, and no trial waits: each request
    is made again as ship-report does, and what is cut off in mid answer a few times as a whole.
    """
    try:
        with environment(RETRIES, over=True):
            made = store.again(execution.store.uri, lambda: publish(outcome))
            if made is not None:
                show_report(execution.store, execution.record.run_id, made)
    except UserError as error:
        return f"the report is not in MLflow yet, the same command writes it: {error}"
    return ""


def study_storage(uri: str, own: StudyStore) -> Storage:
    """The storage of a study, which other studies and other stores do not share.

    By when its experiment was made, to the millisecond: a store may be reached under several
    addresses, and two stores may have one.

    Args:
        uri: of the storage that all studies share.
        own: of the study.
    """
    experiment = own.read(lambda client: client.get_experiment(own.experiment_id))
    return Storage(uri, f"{experiment.creation_time}-{own.experiment_id}")
