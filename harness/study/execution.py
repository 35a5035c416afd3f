"""Runs what a plan has left: features, a Ray session, and a sweep or two."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.config import Resources
from harness.errors import RayLost
from harness.method import knowing_plugins
from harness.planning import Plan, SettingMaker, enumerate_settings
from harness.progress import View, make_view
from harness.recording import StudyRecord, TrialRecorder
from harness.resources import (
    extraction_resources,
    idle_gpus,
    idle_gpus_here,
    is_gpu,
    is_unmeasured,
    machine_resources,
    resolved_resources,
    slots,
)
from harness.store import Ledger
from harness.study.context import Site
from harness.study.extraction import encoder_here
from harness.study.features import needed, prepare_features
from harness.study.interrupts import Interrupts, SweepStopped
from harness.study.plugins import check_plugins
from harness.wording import printable_lines
from reports.contract import State

if TYPE_CHECKING:
    from harness.cluster import Session
    from harness.tuning import Deaths, StudySearcher
    from ship.features import Encode


def _first(plan: Plan, n: int) -> Plan:
    """The n first trials of a plan that are not of reference arms, which are small."""
    work = tuple(work for work in plan.work if not work.setting.arm)[:n]
    return replace(plan, work=work, proposals=min(plan.proposals, n - len(work)))


@dataclass(frozen=True)
class Execution:
    """One run of a plan. Ray is imported in its methods: it takes two seconds."""

    site: Site
    plan: Plan
    ledger: Ledger
    record: StudyRecord
    interrupts: Interrupts
    verbose: bool

    def here(self) -> None:
        """On this machine: Ray starts after the extraction, its store as large as the features."""
        study = self.site.study
        check_plugins(study, self.plan, on_cluster=False)
        self._warn(idle_gpus_here(study.resources, study.concurrency))
        begun = self.interrupts.install
        method = self.site.method
        with encoder_here(study, method, verbose=self.verbose, begun=begun) as encode:
            run, features = self._prepared(encode)
        from harness.cluster import ray_session
        from harness.tuning import array_bytes

        size = array_bytes(features)
        with ray_session(study, None, size, self.verbose) as session:
            self.interrupts.install()
            run._sweep(session, features)

    def in_process(self) -> None:
        """In this process, one trial after the other: nothing is started."""
        check_plugins(self.site.study, self.plan, on_cluster=False)
        run, features = self._prepared(None)
        run._sweep(None, features)

    def on_cluster(self, address: str) -> None:
        """On a running cluster, which shares the extraction out, too."""
        from harness.cluster import ClusterEncoder, check_gpus, cluster_resources, ray_session

        study = self.site.study
        with ray_session(study, address, 0, self.verbose) as session:
            self.interrupts.install()
            check_plugins(study, self.plan, on_cluster=True)
            there = cluster_resources()
            self._warn(idle_gpus(study.resources, there, study.concurrency))
            actor = extraction_resources(study.resources, there)
            if actor.gpus and is_gpu(self.site.method.accelerator):
                check_gpus(study.resources)
            method = self.site.method
            load = knowing_plugins(method.load_backbone)
            with ClusterEncoder(actor, load, method.accelerator) as encoder:
                run, features = self._prepared(encoder)
            run._sweep(session, features)

    def _prepared(self, encode: "Encode | None") -> "tuple[Execution, dict[str, Any]]":
        """The features, and what is left to run now that they are there."""
        features = self._features(encode)
        run = self._replanned()
        return (self, features) if run is self else run._prepared(encode)

    def _features(self, encode: "Encode | None") -> dict[str, Any]:
        site = self.site
        return prepare_features(
            needed(site.study, self.plan),
            site.fingerprints,
            site.method,
            site.cache_dir,
            site.console,
            encode,
        )

    def _replanned(self) -> "Execution":
        """A remembered fingerprint may have turned out to be of other weights."""
        plan = self.site.plan(self.ledger)
        if plan == self.plan:
            return self
        self.site.check_consent(self.ledger, plan)
        self.record.describe(self.site.study, plan)
        return replace(self, plan=plan)

    def _sweep(self, session: "Session | None", features: dict[str, Any]) -> None:
        """Run the trials; session None: in this process.

        Where only a trial can tell how many share a GPU, one a GPU runs first.
        """
        from harness.tuning import TooManyFailures

        try:
            if session is None:
                self._trials(None, features)
            else:
                self._shared_out(session, features)
        except TooManyFailures as failures:
            self._say(str(failures))

    def _shared_out(self, session: "Session", features: dict[str, Any]) -> None:
        from harness.cluster import cluster_resources
        from harness.tuning import share

        there, shared, run = cluster_resources(), share(features), self
        if is_unmeasured(self.site.study.resources, there, self.ledger):
            first = _first(self.plan, int(there["GPU"]))
            if not first.finished:
                replace(self, plan=first)._trials(session, shared)
                run = self._behind_the_first()
        if not run.plan.finished:
            run._trials(session, shared)

    def _behind_the_first(self) -> "Execution":
        """What is left once the first trials have ended; one that failed has had its turn."""
        ledger, known = self.site.ledger(), {run.run_id for run in self.ledger.runs}
        new = [run for run in ledger.runs if run.run_id not in known]
        failed = {run.setting_key for run in new if run.state is State.FAIL}
        plan = self.site.plan(ledger)
        work = tuple(work for work in plan.work if work.setting.key not in failed)
        return replace(self, plan=replace(plan, work=work), ledger=ledger)

    def _trials(self, session: "Session | None", features: Mapping[str, Any]) -> None:
        """Run a plan's trials; session None: in this process.

        Args:
            features: by their keys; those of a session lie in its object store.
        """
        from harness.cluster import cluster_resources
        from harness.tuning import Deaths, StudySearcher

        study, plan = self.site.study, self.plan
        n_trials = len(plan.work) + plan.proposals
        seeds = sum(len(work.seeds) for work in plan.work) + plan.proposals * len(study.seeds)
        at_once = 1 if session is None else study.concurrency
        there = machine_resources(study.resources) if session is None else cluster_resources()
        n_at_once = min(n_trials, at_once or n_trials)
        resources = resolved_resources(study.resources, there, self.ledger, n_at_once)
        maker = SettingMaker(study, self.site.fingerprints)
        beside = sum(setting.added for setting in plan.settings)
        spare = enumerate_settings(study, maker, beside) if plan.proposals else []
        stopped: dict[str, str] = {}
        deaths = Deaths(frozenset) if session is None else Deaths()
        places = slots(resources, there, at_once)
        searcher = StudySearcher(study, plan, self.ledger, maker, spare, stopped, deaths, places)
        console = self.site.console
        with make_view(console, seeds, n_trials, live=session is not None) as view:
            self._tune(session, resources, searcher, (stopped, deaths), features, view)

    def _warn(self, line: str | None) -> None:
        if line is not None:
            self._say(f"warning: {line}")

    def _say(self, line: str) -> None:
        self.site.console.print(
            printable_lines(line), markup=False, highlight=False, soft_wrap=True
        )

    def _check(self, stop: type[BaseException]) -> None:
        """At each turn of Tune's loop: raise if the run cannot go on, or is not to."""
        from harness.cluster import dead_daemon

        self.interrupts.check(stop)
        dead = dead_daemon()
        if dead is not None:
            self.interrupts.failure = RayLost(dead)
            # What is no Exception passes Tune by, which would ask a dead Ray to stop its workers.
            raise KeyboardInterrupt

    def _tune(
        self,
        session: "Session | None",
        resources: Resources,
        searcher: "StudySearcher",
        noted: "tuple[dict[str, str], Deaths]",
        features: Mapping[str, Any],
        view: View,
    ) -> None:
        from harness.tuning import Monitor, sweep, sweep_in_process
        from harness.worker import checkpoint_name, forget

        site = self.site
        study = site.study.model_copy(update={"resources": resources})
        recorder = TrialRecorder(
            site.store, site.experiment_id, self.record, study, site.fingerprints
        )
        stop = KeyboardInterrupt if session is None or session.owned else SweepStopped
        monitor = Monitor(
            searcher.work,
            searcher.ending,
            noted[1],
            recorder,
            view,
            study,
            lambda: self._check(stop),
            lambda work: forget(site.storage, checkpoint_name(work.setting.key, work.seeds)),
            self.ledger.failed,
            searcher.places.n,
        )
        with self.interrupts.deferred():
            try:
                given = (site.method, *noted, site.storage)
                if session is None:
                    sweep_in_process(study, searcher, monitor, features, *given)
                else:
                    sweep(study, searcher, monitor, features, *given)
            finally:
                monitor.close()
