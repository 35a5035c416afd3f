"""Runs what a plan has left: features, a Ray session, and a sweep or two."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.config import Resources
from harness.planning import Plan, SettingMaker, enumerate_settings
from harness.progress import View, make_view
from harness.recording import StudyRecord, TrialRecorder
from harness.store import Ledger
from harness.study.context import Site
from harness.study.features import driver_device, needed, prepare_features
from harness.study.interrupts import Interrupts, SweepStopped

if TYPE_CHECKING:
    from harness.cluster import Session
    from harness.tuning import Deaths, FusePolicy, PrunedSettings, StudySearcher
    from ship.features import Encode


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
        run, features = self._prepared(None)
        from harness.cluster import ray_session
        from harness.tuning import array_bytes

        size = array_bytes(features)
        with ray_session(self.site.study, None, size, self.verbose) as session:
            self.interrupts.install()
            run._sweep(session, features)

    def on_cluster(self, address: str) -> None:
        """On a running cluster, which shares the extraction out, too."""
        from harness.cluster import ClusterEncoder, cluster_resources, ray_session
        from harness.resources import resolved_resources

        study = self.site.study
        with ray_session(study, address, 0, self.verbose) as session:
            self.interrupts.install()
            actor = resolved_resources(study.resources, cluster_resources(), Ledger(), 1_000_000)
            encoder = ClusterEncoder(actor, self.site.method.load_backbone, self.verbose)
            run, features = self._prepared(encoder)
            run._sweep(session, features)

    def _prepared(self, encode: "Encode | None") -> "tuple[Execution, dict[str, Any]]":
        """The features, and what is left to run now that they are there."""
        features = self._features(encode)
        run = self._replanned()
        return (self, features) if run is self else run._prepared(encode)

    def _features(self, encode: "Encode | None") -> dict[str, Any]:
        site = self.site
        resources = site.study.resources
        return prepare_features(
            needed(site.study, self.plan),
            site.fingerprints,
            site.method,
            site.data_root,
            site.cache_dir,
            site.console,
            driver_device(1 if resources.auto else resources.gpus),
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

    def _sweep(self, session: "Session", features: dict[str, Any]) -> None:
        """Run the trials; where a GPU's share has to be measured, one of them first."""
        from harness.cluster import cluster_resources
        from harness.resources import needs_scout, resolved_resources
        from harness.tuning import Deaths, PrunedSettings, StudySearcher, TooManyFailures, share

        study, plan, there = self.site.study, self.plan, cluster_resources()
        n_trials = len(plan.work) + plan.proposals
        seeds = sum(len(work.seeds) for work in plan.work) + plan.proposals * len(study.seeds)
        n_at_once = min(n_trials, study.concurrency or n_trials)
        resources = resolved_resources(study.resources, there, self.ledger, n_at_once)
        policy = self._policy(resources)
        maker = SettingMaker(study, self.site.fingerprints)
        shared = share(features)
        spare = enumerate_settings(study, maker) if plan.proposals else []
        noted = PrunedSettings(), Deaths()
        searcher = StudySearcher(
            study, plan, self.ledger, maker, spare, policy, *noted, policy.slots
        )
        try:
            with make_view(self.site.console, seeds, n_trials) as view:
                if needs_scout(study.resources, there, self.ledger):
                    searcher.give_largest(policy.bytes)
                    self._tune(session, resources, searcher, noted, shared, view)
                    resources = resolved_resources(
                        study.resources, there, self.site.ledger(), n_at_once
                    )
                    policy = self._policy(resources)
                    searcher.give_all(policy, policy.slots)
                self._tune(session, resources, searcher, noted, shared, view)
        except TooManyFailures as failures:
            self.site.console.print(str(failures), markup=False, highlight=False, soft_wrap=True)

    def _policy(self, resources: Resources) -> "FusePolicy":
        """How many settings are fused, where each Ray trial takes so much."""
        from harness.cluster import cluster_resources, memory_of_a_trial
        from harness.resources import slots
        from harness.tuning import fuse_policy

        site = self.site
        places = slots(resources, cluster_resources(), site.study.concurrency)
        return fuse_policy(
            site.study,
            places,
            gpu=bool(resources.gpus),
            memory=lambda: memory_of_a_trial(resources, places, site.method.accelerator),
            costs=site.method.costs(site.data_root) if site.method.costs else None,
        )

    def _tune(
        self,
        session: "Session",
        resources: Resources,
        searcher: "StudySearcher",
        noted: "tuple[PrunedSettings, Deaths]",
        shared: Any,
        view: View,
    ) -> None:
        from harness.tuning import Monitor, group_checkpoint, sweep
        from harness.worker import forget

        site = self.site
        study = site.study.model_copy(update={"resources": resources})
        recorder = TrialRecorder(
            site.store, site.experiment_id, self.record, study, site.fingerprints
        )
        stop = KeyboardInterrupt if session.owned else SweepStopped
        monitor = Monitor(
            searcher.group,
            searcher.endings,
            *noted,
            recorder,
            view,
            study,
            lambda: self.interrupts.check(stop),
            lambda group: forget(site.storage, group_checkpoint(group)),
            self.ledger.failed,
            searcher.places.n,
        )
        with self.interrupts.deferred():
            try:
                sweep(study, searcher, monitor, shared, site.method, *noted, site.storage)
            finally:
                monitor.close()
