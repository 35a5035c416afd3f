"""The trials of a study run: its features come first, then a Ray session, and a sweep or two."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness import planning, resources
from harness.checkpoints import Storage, checkpoint_name
from harness.errors import RayLost
from harness.messages import Need
from harness.progress import View, line_printer
from harness.recording import StudyRun, TrialRecorder
from harness.study.features import check_plugins, encoder_here, needed, prepare_features
from harness.study.interrupts import Interrupts, SweepStopped
from harness.study.standing import Standing

if TYPE_CHECKING:
    from ship.features import Encode


@dataclass(frozen=True)
class Options:
    """How a study is to be run.

    console: where progress goes.
    accept_changes: whether finished rows may leave the table of a study that has changed.
    address: of the running Ray cluster that its trials run on; None: they run on this machine.
    in_process: one after the other in this process.
    verbose: let Ray talk.
    reuse: whether what other studies of the store have finished is adopted.
    retry_before: see planning.make_plan.
    """

    console: Console
    accept_changes: bool
    address: str | None = None
    in_process: bool = False
    verbose: bool = False
    reuse: bool = True
    retry_before: int = 0

    def say(self, line: str) -> None:
        """Print a line."""
        line_printer(self.console)(line)


@dataclass
class Trials:
    """Runs what is left of a study. Ray is imported in its methods: it takes two seconds.

    standing: the study, and what is left of it.
    record: of the study's own run.
    storage: of checkpoints.
    """

    standing: Standing
    record: StudyRun
    storage: Storage
    options: Options
    interrupts: Interrupts

    def __post_init__(self) -> None:
        self._study, self._prints = self.standing.study, self.standing.fingerprints

    def run(self) -> None:
        """Run the plan: in this process, on this machine, or on a running cluster."""
        from harness.tuning import TooManyFailures

        address = self.options.address
        try:
            check_plugins(self._study, self.standing.plan)
            if address is not None:
                self._on_cluster(address)
            elif self.options.in_process:
                self._sweep(self._extract(None))
            else:
                self._here()
        except TooManyFailures as failures:
            self.options.say(str(failures))

    def _here(self) -> None:
        """Ray starts after the extraction, its store as large as the features."""
        study, verbose = self._study, self.options.verbose
        self._warn(resources.idle_gpus_here(study.resources, study.concurrency))
        with encoder_here(study, self._prints.method, verbose=verbose) as encode:
            features = self._extract(encode)
        from harness.ray import cluster_resources, ray_session
        from harness.tuning import array_bytes

        with ray_session(study.resources, None, array_bytes(features), verbose) as owned:
            resources.check_room(study.resources, cluster_resources())  # of a session open before
            self._shared_out(features, owned)

    def _on_cluster(self, address: str) -> None:
        """The cluster shares the extraction out, too."""
        from harness.ray import ClusterEncoder, cluster_resources, ray_session

        study, method = self._study, self._prints.method
        with ray_session(study.resources, address, 0, self.options.verbose) as owned:
            there = cluster_resources()
            resources.check_room(study.resources, there)
            self._warn(resources.idle_gpus(study.resources, there, study.concurrency))
            actor = resources.resolved_resources(study.resources, there)
            with ClusterEncoder(actor, method.load_backbone, method.accelerator) as encode:
                features = self._extract(encode)
            self._shared_out(features, owned)

    def _extract(self, encode: "Encode | None") -> dict[Need, Any]:
        needs = needed(self._study, self.standing.plan)
        return prepare_features(needs, self._prints, self.options.console, encode)

    def _shared_out(self, features: Mapping[Need, Any], owned: bool) -> None:
        """Run the trials in the open Ray session."""
        from harness.tuning import share

        self._sweep(share(features), owned)

    def _sweep(self, features: Mapping[Need, Any], owned: bool = True) -> None:
        """Run the plan's trials, in the open Ray session or one after the other in this process.

        Args:
            features: those of a session lie in its object store.
            owned: whether this process leaves the session at the end.
        """
        plan = self.standing.plan
        if plan.finished:
            return
        from harness import tuning
        from harness.ray import cluster_resources, kill_worker

        study, storage, ledger = self._study, self.storage, self.standing.ledger
        in_process = self.options.in_process
        there = resources.machine_resources() if in_process else cluster_resources()
        n_trials = len(plan.work) + plan.proposals
        seeds = sum(len(work.seeds) for work in plan.work) + plan.proposals * len(study.seeds)
        most = 1 if in_process else study.concurrency
        each = resources.resolved_resources(study.resources, there)
        resolved = study.model_copy(update={"resources": each})
        room = resources.slots(each, there, most)

        def at_once() -> int:
            """How many trials may be given out: on a cluster one more than there is room for.

            It waits, so that an autoscaler has a reason to add a node. No node joins a session of
            the study's own, of which nothing is asked: an answer of one that died takes a minute.
            """
            if owned and self.options.address is None:
                return room
            return resources.slots(each, cluster_resources(), most, waiting=1)

        maker = planning.SettingMaker(study, self._prints)
        searcher = tuning.StudySearcher(study, plan, ledger, maker, at_once)
        view = View(self.options.console, seeds, n_trials, live=not in_process)
        monitor = tuning.Monitor(
            searcher,
            TrialRecorder(self.record, resolved, self._prints),
            view,
            resolved,
            check_interrupt=lambda: self._check(KeyboardInterrupt if owned else SweepStopped),
            forget=lambda work: storage.forget(
                checkpoint_name(work.setting.key, work.seeds, study.save)
            ),
            failed_before=ledger.failed,
            end_trial=(lambda trial: True) if in_process else kill_worker,
        )
        sweep = tuning.sweep_in_process if in_process else tuning.sweep_through_tune
        given = tuning.worker_arguments(resolved, self._prints.method, storage)
        with view.bars, self.interrupts.deferred():
            try:
                sweep(monitor, given, features)
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
        if line:
            self.options.say(f"warning: {line}")
