"""Runs what a plan has left: features, a Ray session, and a sweep or two."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness import resources
from harness.checkpoints import checkpoint_name
from harness.config import StudyConfig
from harness.device import is_gpu
from harness.errors import ConfigError, RayLost
from harness.method import knowing_plugins
from harness.planning import Plan, SettingMaker, enumerate_settings
from harness.progress import View, line_printer
from harness.recording import StudyRecord, TrialRecorder
from harness.store import Ledger
from harness.study.context import OpenStudy
from harness.study.features import encoder_here, levels_of, needed, prepare_features
from harness.study.interrupts import SweepStopped
from harness.wording import printable
from reports.contract import State
from ship.plugins import PluginError, carried, identities, load_carried, require_builders
from ship.registry import Origin

if TYPE_CHECKING:
    from harness.ray import Session
    from ship.features import Encode


@dataclass
class Execution:
    """One run of a plan. Ray is imported in its methods: it takes two seconds.

    plan: what is left of the study.
    ledger: that the plan was made from.
    """

    opened: OpenStudy
    plan: Plan
    ledger: Ledger
    record: StudyRecord

    def run(self) -> None:
        """Run the plan: in this process, on this machine, or on a running cluster."""
        from harness.tuning import TooManyFailures

        try:
            if self.opened.address is not None:
                self._on_cluster(self.opened.address)
            elif self.opened.in_process:
                check_plugins(self.opened.study, self.plan, on_cluster=False)
                self._trials(None, self._extract(None))
            else:
                self._here()
        except TooManyFailures as failures:
            self._say(str(failures))

    def _here(self) -> None:
        """Ray starts after the extraction, its store as large as the features."""
        study, verbose, interrupts = self.opened.study, self.opened.verbose, self.opened.interrupts
        check_plugins(study, self.plan, on_cluster=False)
        self._warn(resources.idle_gpus_here(study.resources, study.concurrency))
        method, begun = self.opened.fingerprints.method, interrupts.install
        with encoder_here(study, method, verbose=verbose, begun=begun) as encode:
            features = self._extract(encode)
        from harness.ray import ray_session
        from harness.tuning import array_bytes

        with ray_session(study, None, array_bytes(features), verbose) as session:
            interrupts.install()
            self._shared_out(session, features)

    def _on_cluster(self, address: str) -> None:
        """The cluster shares the extraction out, too."""
        from harness.ray import ClusterEncoder, check_gpus, cluster_resources, ray_session

        study, method = self.opened.study, self.opened.fingerprints.method
        with ray_session(study, address, 0, self.opened.verbose) as session:
            self.opened.interrupts.install()
            check_plugins(study, self.plan, on_cluster=True)
            there = cluster_resources()
            self._warn(resources.idle_gpus(study.resources, there, study.concurrency))
            actor = resources.extraction_resources(study.resources, there)
            if actor.gpus and is_gpu(method.accelerator):
                check_gpus(study.resources)
            load = knowing_plugins(method.load_backbone)
            with ClusterEncoder(actor, load, method.accelerator) as encoder:
                features = self._extract(encoder)
            self._shared_out(session, features)

    def _extract(self, encode: "Encode | None") -> dict[str, Any]:
        """The features of the plan, which is made anew where that is out of date with them."""
        opened = self.opened
        while True:
            needs = needed(opened.study, self.plan)
            features = prepare_features(needs, opened.fingerprints, opened.console, encode)
            plan = opened.plan(self.ledger)
            if plan == self.plan:
                return features
            # a remembered fingerprint has turned out to be of other weights
            opened.check_consent(self.ledger, plan)
            self.record.describe(opened.study, plan)
            self.plan = plan

    def _shared_out(self, session: "Session", features: dict[str, Any]) -> None:
        """Run the trials; where only a trial can tell how many share a GPU, one a GPU goes first.

        One of these that failed has had its turn. Trials of reference arms are small, and tell
        nothing.
        """
        from harness.ray import cluster_resources
        from harness.tuning import share

        there, shared = cluster_resources(), share(features)
        if resources.is_unmeasured(self.opened.study.resources, there, self.ledger):
            gpus, before = int(there["GPU"]), {run.run_id for run in self.ledger.runs}
            first = tuple(work for work in self.plan.work if not work.setting.arm)[:gpus]
            proposals = min(self.plan.proposals, gpus - len(first))
            self.plan = replace(self.plan, work=first, proposals=proposals)
            if not self.plan.finished:
                self._trials(session, shared)
                self.ledger = self.opened.ledger()
            new = [run for run in self.ledger.runs if run.run_id not in before]
            failed = {run.setting_key for run in new if run.state is State.FAIL}
            plan = self.opened.plan(self.ledger)
            left = tuple(work for work in plan.work if work.setting.key not in failed)
            self.plan = replace(plan, work=left)
        if not self.plan.finished:
            self._trials(session, shared)

    def _trials(self, session: "Session | None", features: Mapping[str, Any]) -> None:
        """Run a plan's trials; session None: in this process, one after the other.

        Args:
            features: by their keys; those of a session lie in its object store.
        """
        from harness.ray import cluster_resources, kill_worker
        from harness.tuning import (
            Deaths,
            Monitor,
            StudySearcher,
            end_here,
            sweep,
            sweep_in_process,
        )

        opened, plan, store = self.opened, self.plan, self.opened.store
        prints, study, storage = opened.fingerprints, opened.study, opened.storage
        n_trials = len(plan.work) + plan.proposals
        seeds = sum(len(work.seeds) for work in plan.work) + plan.proposals * len(study.seeds)
        most = 1 if session is None else study.concurrency
        there = (
            resources.machine_resources(study.resources) if session is None else cluster_resources()
        )
        n_at_once = min(n_trials, most or n_trials)
        each = resources.resolved_resources(study.resources, there, self.ledger, n_at_once)
        resolved = study.model_copy(update={"resources": each})
        maker = SettingMaker(study, prints)
        n_for_path = sum(setting.for_path for setting in plan.settings)
        spare = enumerate_settings(study, maker, n_for_path) if plan.proposals else []

        def at_once() -> int:
            """How many trials there is room for now."""
            return 1 if session is None else resources.slots(each, cluster_resources(), most)

        deaths = Deaths(frozenset) if session is None else Deaths()
        searcher = StudySearcher(study, plan, self.ledger, maker, spare, deaths, at_once)
        recorder = TrialRecorder(store, opened.experiment_id, self.record, resolved, prints)
        view = View(opened.console, seeds, n_trials, live=session is not None)
        stop = KeyboardInterrupt if session is None or session.owned else SweepStopped
        monitor = Monitor(
            searcher,
            recorder,
            view,
            resolved,
            lambda: self._check(stop),
            lambda work: storage.forget(checkpoint_name(work.setting.key, work.seeds)),
            self.ledger.failed,
            end_here if session is None else kill_worker,
        )
        run = sweep_in_process if session is None else sweep
        with view.table or nullcontext(), opened.interrupts.deferred():
            try:
                run(resolved, searcher, monitor, features, prints.method, storage)
            finally:
                monitor.close()

    def _check(self, stop: type[BaseException]) -> None:
        """At each turn of Tune's loop: raise if the run cannot go on, or is not to."""
        from harness.ray import dead_daemon

        self.opened.interrupts.check(stop)
        dead = dead_daemon()
        if dead is not None:
            self.opened.interrupts.failure = RayLost(dead)
            # What is no Exception passes Tune by, which would ask a dead Ray to stop its workers.
            raise KeyboardInterrupt

    def _warn(self, line: str | None) -> None:
        if line is not None:
            self._say(f"warning: {line}")

    def _say(self, line: str) -> None:
        line_printer(self.opened.console)(line)


def check_plugins(study: StudyConfig, plan: Plan, *, on_cluster: bool) -> None:
    """Import what the study's plugins need, nothing where it names none.

    On a cluster a worker does so: its nodes have packages of their own. On this machine, whose Ray
    is not started before the features are there, the driver does: its workers import from where it
    does.

    Raises:
        ConfigError: a line that names the plugin and says why a trial cannot use it.
    """
    planned = dict(item for pair in _named(study, plan) for item in identities(*pair).items())
    if not planned:
        return
    if on_cluster:
        import ray

        ask = ray.remote(num_cpus=0)(_fault)
        where, fault = "on a worker of the cluster: ", ray.get(ask.remote(carried(), planned))
    else:
        where, fault = "", _fault((), planned)
    if fault:
        raise ConfigError([printable(f"{where}{fault}")])


def _named(study: StudyConfig, plan: Plan) -> Iterator[tuple[str, str]]:
    """(generator, fine-tuner) of each trial that is planned, or may be proposed."""
    for work in plan.work:
        yield work.setting.config.generator.name, work.setting.config.finetuner.name
    for generator in levels_of(study, "generator") if plan.proposals else ():
        for finetuner in levels_of(study, "finetuner"):
            yield getattr(generator, "name", generator), getattr(finetuner, "name", finetuner)


def _fault(files: tuple[Origin, ...], planned: Mapping[str, str]) -> str:
    """Why a trial could not use the plugins in this process; "": it could."""
    try:
        load_carried(files)
        require_builders(planned)
    except PluginError as error:
        return str(error)
    return ""
