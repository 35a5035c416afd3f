"""A study that this process runs: its plan, features, a Ray session, and a sweep or two."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness import planning, resources, store
from harness.checkpoints import Storage, checkpoint_name
from harness.config import StudyConfig
from harness.device import is_gpu
from harness.errors import RayLost
from harness.method import knowing_plugins
from harness.planning import Changes, Fingerprints, Plan, StudyOutcome
from harness.progress import View, line_printer, reporter
from harness.recording import StudyRecord, TrialRecorder, adopt
from harness.store import Known, StudyStore
from harness.study.features import check_plugins, encoder_here, needed, prepare_features
from harness.study.interrupts import Interrupts, SweepStopped
from harness.study.preview import elsewhere, ledger_of, source_of
from reports.contract import State

if TYPE_CHECKING:
    from ship.features import Encode

Before = Callable[[str, str], None]  # takes the study's name and the store's URI


@dataclass
class Execution:
    """One run of a study. Ray is imported in its methods: it takes two seconds.

    study: its name is its experiment's.
    store: methods may raise StoreError.
    fingerprints: of its data and weights, with the method and the cache folder.
    storage: of its checkpoints.
    consent: raises StudyChanged where finished rows may not leave the table of a YAML.
    address: of the running Ray cluster that its trials run on; None: they run on this machine.
    in_process: one after the other in this process.
    verbose: let Ray talk.
    reuse: whether what other studies of the store have finished is adopted.
    ledger, plan: what the store has of the study, and what is left to do; see read.
    """

    study: StudyConfig
    store: StudyStore
    fingerprints: Fingerprints
    storage: Storage
    console: Console
    consent: Callable[[Changes, str], None]
    interrupts: Interrupts
    address: str | None
    in_process: bool
    verbose: bool
    reuse: bool
    _known: Sequence[Known] = ()

    def bring_about(self, before: Before | None) -> StudyOutcome:
        """Run what is left, and say what the study has come to.

        Args:
            before: called before a study that has runs already is changed and run on.

        Raises:
            KeyboardInterrupt: interrupted while the store was away, so that there is no outcome.
        """
        ran = False
        try:
            self.read()
            self._check_consent(self.plan)
            if self.reuse:
                self._known = elsewhere(self.store, self.store.experiment_id, self.study, self.plan)
            if not self._rest().finished:
                self._check_places()
            if store.close_dead_runs(self.store, self.store.experiment_id):
                self.read()
            if before is not None and self.ledger.runs and not self.plan.finished:
                before(self.study.name, self.store.uri)
            self.record = StudyRecord.create(self.store, self.store.experiment_id, self.study)
            self.record.describe(self.study, self.plan)
            self.record.place_runs(self.ledger, self.plan)
            if self.plan.finished:
                outcome = self._outcome()
                self.record.set_final_state(outcome.state)
                return outcome
            ran = True
            outcome = self._run_on_record()
        except (KeyboardInterrupt, SystemExit, Exception) as error:
            # whoever stops the study may have stopped Ray with it, which then fails in its own
            # ways; while Ray starts, its own handler of SIGTERM makes it a SystemExit
            if self.interrupts.failure is not None:  # told of as it is, wherever it struck
                raise self.interrupts.failure from None
            if not self.interrupts.requested and not isinstance(error, SystemExit):
                raise
            self.store.hurry()
            try:
                # a signal may have struck between a run's first write and the place that ends it
                store.close_dead_runs(self.store, self.store.experiment_id, store.INTERRUPTED)
                self.read()
                return self._outcome(interrupted=True, ran=ran)
            except store.StoreAway:  # whoever runs the study next closes it
                raise KeyboardInterrupt from None
        if outcome.complete:
            self.storage.forget()
        return outcome

    def read(self) -> None:
        """Read what the store has of the study now, and plan what is left."""
        self.ledger, self._stored = ledger_of(self.store, self.store.experiment_id, self.study)
        self.plan = planning.make_plan(self.study, self.ledger, self.fingerprints)

    def _rest(self) -> Plan:
        """What is to run once the study has adopted what others have finished."""
        found = planning.adoptions(self.study, self.plan, self._known)
        if not found:
            return self.plan
        return planning.once_adopted(self.study, self.ledger, found, self.fingerprints)[1]

    def _check_places(self) -> None:
        """Raise a UserError where trials could not run, or not leave their checkpoints."""
        resources.preflight(self.address, self.study.resources)
        if self.study.checkpoint_every is not None:
            self.storage.check()

    def _check_consent(self, plan: Plan) -> None:
        """Raise StudyChanged if finished rows would leave the table unasked."""
        maker = planning.SettingMaker(self.study, self.fingerprints)
        changes = planning.compare(self.study, plan, self.ledger, self._stored, maker)
        self.consent(changes, source_of(self.study))

    def _outcome(self, *, interrupted: bool = False, ran: bool = False) -> StudyOutcome:
        """What the study has come to, by the plan.

        Args:
            interrupted: whether somebody stopped the run.
            ran: whether anything was run at all.
        """
        name, uri = self.study.name, self.store.uri
        return planning.outcome_of(self.plan, name, uri, interrupted=interrupted, ran=ran)

    def _run_on_record(self) -> StudyOutcome:
        """Run the plan; the study's own run is RUNNING meanwhile, and then says what came of it."""
        self.record.begin()
        try:
            if self._known:
                self._adopt()
            ran = not self.plan.finished
            if ran:
                self.run()
                self.read()
            outcome = self._outcome(ran=ran)
        except BaseException:
            with suppress(store.StudyLost):  # the study's run is another driver's
                self.record.end(State.INTERRUPTED)
            raise
        self.record.end(outcome.state)
        return outcome

    def _adopt(self) -> None:
        """Take over what other studies have finished; the plan is what is left then."""
        study, written = self.study, []
        found = planning.adoptions(study, self.plan, self._known)
        if not found:
            return
        recorder = TrialRecorder(self.record, study, self.fingerprints)
        with reporter("runs known from other studies", self.console) as report:
            for place, one in enumerate(found):
                report(place, len(found))
                if adopt(recorder, one):
                    written.append(one)
            report(len(found), len(found))
        for line in planning.adoption_lines(written):
            self._say(line)
        self.read()
        if len(written) < len(found):  # what could not be taken runs
            self._check_places()

    def run(self) -> None:
        """Run the plan: in this process, on this machine, or on a running cluster."""
        from harness.tuning import TooManyFailures

        try:
            if self.address is not None:
                self._on_cluster(self.address)
            elif self.in_process:
                check_plugins(self.study, self.plan, on_cluster=False)
                self._trials(None, self._extract(None))
            else:
                self._here()
        except TooManyFailures as failures:
            self._say(str(failures))

    def _here(self) -> None:
        """Ray starts after the extraction, its store as large as the features."""
        study, verbose, interrupts = self.study, self.verbose, self.interrupts
        check_plugins(study, self.plan, on_cluster=False)
        self._warn(resources.idle_gpus_here(study.resources, study.concurrency))
        method, begun = self.fingerprints.method, interrupts.install
        with encoder_here(study, method, verbose=verbose, begun=begun) as encode:
            features = self._extract(encode)
        from harness.ray import ray_session
        from harness.tuning import array_bytes

        with ray_session(study, None, array_bytes(features), verbose) as owned:
            interrupts.install()
            self._shared_out(owned, features)

    def _on_cluster(self, address: str) -> None:
        """The cluster shares the extraction out, too."""
        from harness.ray import ClusterEncoder, check_gpus, cluster_resources, ray_session

        study, method = self.study, self.fingerprints.method
        with ray_session(study, address, 0, self.verbose) as owned:
            self.interrupts.install()
            check_plugins(study, self.plan, on_cluster=True)
            there = cluster_resources()
            self._warn(resources.idle_gpus(study.resources, there, study.concurrency))
            actor = resources.extraction_resources(study.resources, there)
            if actor.gpus and is_gpu(method.accelerator):
                check_gpus(study.resources)
            load = knowing_plugins(method.load_backbone)
            with ClusterEncoder(actor, load, method.accelerator) as encoder:
                features = self._extract(encoder)
            self._shared_out(owned, features)

    def _extract(self, encode: "Encode | None") -> dict[str, Any]:
        """The features of the plan, which is made anew where that is out of date with them."""
        while True:
            needs = needed(self.study, self.plan)
            features = prepare_features(needs, self.fingerprints, self.console, encode)
            plan = planning.make_plan(self.study, self.ledger, self.fingerprints)
            if plan == self.plan:
                return features
            # a remembered fingerprint has turned out to be of other weights
            self.read()  # what was agreed to before stands in the store, and is not asked again
            self._check_consent(self.plan)
            self.record.describe(self.study, self.plan)

    def _shared_out(self, owned: bool, features: dict[str, Any]) -> None:
        """Run the trials; where only a trial can tell how many share a GPU, one a GPU goes first.

        One of these that failed has had its turn. Trials of reference arms are small, and tell
        nothing.
        """
        from harness.ray import cluster_resources
        from harness.tuning import share

        there, shared = cluster_resources(), share(features)
        if resources.is_unmeasured(self.study.resources, there, self.ledger):
            gpus, before = int(there["GPU"]), {run.run_id for run in self.ledger.runs}
            first = tuple(work for work in self.plan.work if not work.setting.arm)[:gpus]
            proposals = min(self.plan.proposals, gpus - len(first))
            self.plan = replace(self.plan, work=first, proposals=proposals)
            if not self.plan.finished:
                self._trials(owned, shared)
            self.read()
            new = [run for run in self.ledger.runs if run.run_id not in before]
            failed = {run.setting_key for run in new if run.state is State.FAIL}
            left = tuple(work for work in self.plan.work if work.setting.key not in failed)
            self.plan = replace(self.plan, work=left)
        if not self.plan.finished:
            self._trials(owned, shared)

    def _trials(self, owned: bool | None, features: Mapping[str, Any]) -> None:
        """Run a plan's trials, in the open Ray session or one after the other in this process.

        Args:
            owned: whether this process leaves the session at the end; None: there is none.
            features: by their keys; those of a session lie in its object store.
        """
        from harness.ray import cluster_resources, kill_worker
        from harness.tuning import Monitor, StudySearcher, Sweep

        plan, prints, study, storage = self.plan, self.fingerprints, self.study, self.storage
        here = owned is None
        there = resources.machine_resources(study.resources) if here else cluster_resources()
        n_trials = len(plan.work) + plan.proposals
        seeds = sum(len(work.seeds) for work in plan.work) + plan.proposals * len(study.seeds)
        most = 1 if here else study.concurrency
        n_at_once = min(n_trials, most or n_trials)
        each = resources.resolved_resources(study.resources, there, self.ledger, n_at_once)
        resolved = study.model_copy(update={"resources": each})
        maker = planning.SettingMaker(study, prints)
        n_for_path = sum(setting.for_path for setting in plan.settings)
        spare = planning.enumerate_settings(maker, n_for_path) if plan.proposals else []
        room = resources.slots(each, there, most)

        def at_once() -> int:
            """How many trials may be given out: on a cluster one more than there is room for.

            It waits, so that an autoscaler has a reason to add a node. No node joins a session of
            the study's own, of which nothing is asked: an answer of one that died takes a minute.
            """
            if here or (owned and self.address is None):
                return room
            return resources.slots(each, cluster_resources(), most, waiting=1)

        searcher = StudySearcher(study, plan, self.ledger, maker, spare, at_once)
        view = View(self.console, seeds, n_trials, live=not here)
        stop = SweepStopped if owned is False else KeyboardInterrupt
        monitor = Monitor(
            searcher,
            TrialRecorder(self.record, resolved, prints),
            view,
            resolved,
            lambda: self._check(stop),
            lambda work: storage.forget(checkpoint_name(work.setting.key, work.seeds)),
            self.ledger.failed,
            (lambda trial: True) if here else kill_worker,
        )
        sweep = Sweep(resolved, searcher, monitor, prints.method, storage)
        with view.bars or nullcontext(), self.interrupts.deferred():
            try:
                (sweep.in_process if here else sweep.through_tune)(features)
            finally:
                monitor.close()

    def _check(self, stop: type[BaseException]) -> None:
        """At each turn of Tune's loop: raise if the run cannot go on, or is not to."""
        from harness.ray import dead_daemon

        self.interrupts.check(stop)
        dead = dead_daemon()
        if dead is not None:
            self.interrupts.failure = RayLost(dead)
            # What is no Exception passes Tune by, which would ask a dead Ray to stop its workers.
            raise KeyboardInterrupt

    def _warn(self, line: str | None) -> None:
        if line is not None:
            self._say(f"warning: {line}")

    def _say(self, line: str) -> None:
        line_printer(self.console)(line)
