"""Run the trials of a study: extract its features, open a Ray session, and start Tune."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness import planning, resources
from harness.checkpoints import Storage, make_checkpoint_name
from harness.errors import RayLost
from harness.messages import FeatureKey
from harness.progress import ProgressView, make_line_printer
from harness.recording import ParentRun, TrialRecorder
from harness.study.features import check_plugins, collect_needs, open_encoder, prepare_features
from harness.study.interrupts import Interrupts, SweepStopped
from harness.study.state import StudyState

if TYPE_CHECKING:
    from harness.ray import ClusterEncoder


@dataclass(frozen=True)
class RunOptions:
    """Options of a study's run.

    Attributes:
        console: Console that shows the progress.
        accept_changes: Whether finished rows of changed configurations may leave the report's
            tables.
        address: Address of the running Ray cluster to use. None uses this machine only.
        in_process: Whether trials run one after the other in this process.
        verbose: Whether Ray prints its messages.
        reuse: Whether results of other studies in the store are reused.
        retry_before: See `planning.make_plan`.
    """

    console: Console
    accept_changes: bool
    address: str | None = None
    in_process: bool = False
    verbose: bool = False
    reuse: bool = True
    retry_before: int = 0

    def print_line(self, line: str) -> None:
        """Print a line to the console."""
        make_line_printer(self.console)(line)


@dataclass
class TrialRunner:
    """Runner of a study's trials. Its methods import Ray, which takes two seconds.

    Attributes:
        state: State of the study, with the work that is left.
        parent_run: The study's own MLflow run.
        storage: Storage of the study's checkpoints.
        options: Options of the run.
        interrupts: Handler of signals that stop the study.
    """

    state: StudyState
    parent_run: ParentRun
    storage: Storage
    options: RunOptions
    interrupts: Interrupts

    def __post_init__(self) -> None:
        self._study, self._fingerprints = self.state.study, self.state.fingerprints

    def run(self) -> None:
        """Run the plan in this process, on this machine, or on a running cluster.

        If too many configurations fail in a row, the run ends without an error, and the reasons are
        printed.

        Raises:
            UserError: The store, the cluster or a plugin cannot be used.
            ValueError: A backbone or a dataset cannot be read.
            KeyboardInterrupt: A signal ended the run, or Ray has died.
            SweepStopped: A signal ended the run in a Ray session that the caller opened.
        """
        from harness.tuning import TooManyFailures

        address = self.options.address
        try:
            check_plugins(self._study, self.state.plan)
            if address is not None:
                self._run_on_cluster(address)
            elif self.options.in_process:
                self._sweep(self._extract(None))
            else:
                self._run_locally()
        except TooManyFailures as failures:
            self.options.print_line(str(failures))

    def _run_locally(self) -> None:
        """Run the plan on this machine.

        Ray starts after the extraction, because its object store has to hold the features.
        """
        study, verbose = self._study, self.options.verbose
        self._warn(resources.describe_idle_gpus_here(study.resources, study.max_concurrent_trials))
        with open_encoder(study, self._fingerprints.method, verbose=verbose) as encode:
            features = self._extract(encode)
        from harness.ray import get_cluster_resources, ray_session
        from harness.tuning import count_bytes

        with ray_session(study.resources, None, count_bytes(features), verbose) as owns_session:
            # a session that the caller has opened may be smaller than this machine
            resources.check_capacity(study.resources, get_cluster_resources())
            self._run_distributed(features, owns_session)

    def _run_on_cluster(self, address: str) -> None:
        """Extract features and run the plan on a running cluster."""
        from harness.ray import ClusterEncoder, get_cluster_resources, ray_session

        study, method = self._study, self._fingerprints.method
        with ray_session(study.resources, address, 0, self.options.verbose) as owns_session:
            cluster = get_cluster_resources()
            resources.check_capacity(study.resources, cluster)
            self._warn(
                resources.describe_idle_gpus(study.resources, cluster, study.max_concurrent_trials)
            )
            actor = resources.resolve_resources(study.resources, cluster)
            with ClusterEncoder(actor, method.load_backbone, method.accelerator) as encode:
                features = self._extract(encode)
            self._run_distributed(features, owns_session)

    def _extract(self, encode: "ClusterEncoder | None") -> dict[FeatureKey, Any]:
        needs = collect_needs(self._study, self.state.plan)
        return prepare_features(needs, self._fingerprints, self.options.console, encode)

    def _run_distributed(self, features: Mapping[FeatureKey, Any], owns_session: bool) -> None:
        """Put the features into the object store, and run the trials in the open Ray session."""
        from harness.tuning import put_features

        self._sweep(put_features(features), owns_session)

    def _sweep(self, features: Mapping[FeatureKey, Any], owns_session: bool = True) -> None:
        """Run the plan's trials in the open Ray session, or one after the other in this process.

        Args:
            features: Features of the trials. In a Ray session these are references to its object
                store.
            owns_session: Whether this study opened the session and will close it. True in process.
        """
        plan = self.state.plan
        if plan.finished:
            return
        from harness import tuning
        from harness.ray import get_cluster_resources, kill_worker

        study, storage, history = self._study, self.storage, self.state.history
        in_process = self.options.in_process
        total_resources = (
            resources.get_machine_resources() if in_process else get_cluster_resources()
        )
        n_seeds = sum(len(work.seeds) for work in plan.work) + plan.n_proposals * len(study.seeds)
        max_trials = 1 if in_process else study.max_concurrent_trials
        per_trial = resources.resolve_resources(study.resources, total_resources)
        resolved_study = study.model_copy(update={"resources": per_trial})
        free_slots = resources.count_slots(per_trial, total_resources, max_trials)
        trials = planning.divide_work(study, plan.work, history, free_slots)

        def max_concurrent() -> int:
            """Return the number of trials to submit at once.

            On a cluster, or in a session that the caller opened, this is one more than fits, so
            that an autoscaler adds a node for the waiting trial. A session that the study has
            opened on this machine never grows, and is not queried again: if Ray has died, a query
            takes a minute.
            """
            if owns_session and self.options.address is None:
                return free_slots
            return resources.count_slots(per_trial, get_cluster_resources(), max_trials, waiting=1)

        maker = planning.ConfigurationMaker(study, self._fingerprints)
        searcher = tuning.StudySearcher(study, plan, history, maker, max_concurrent, trials)
        n_ray_trials = len(trials) + plan.n_proposals  # a configuration may have several trials
        view = ProgressView(self.options.console, n_seeds, n_ray_trials, live=not in_process)
        monitor = tuning.Monitor(
            searcher,
            TrialRecorder(self.parent_run, resolved_study, self._fingerprints),
            view,
            resolved_study,
            check_interrupt=lambda: self._check(
                KeyboardInterrupt if owns_session else SweepStopped
            ),
            remove_checkpoint=lambda work: storage.remove(
                make_checkpoint_name(work.configuration.key, work.seeds, study.save_models)
            ),
            failed_before=history.failed,
            end_trial=(lambda trial: True) if in_process else kill_worker,
        )
        sweep = tuning.sweep_in_process if in_process else tuning.sweep_through_tune
        arguments = tuning.make_worker_arguments(resolved_study, self._fingerprints.method, storage)
        with view.bars, self.interrupts.defer_signals():
            try:
                sweep(monitor, arguments, features)
            finally:
                monitor.close()

    def _check(self, stop: type[BaseException]) -> None:
        """Raise an exception if a signal has stopped the run or Ray has died.

        Tune's loop calls this method often.

        Args:
            stop: Exception to raise after a signal.
        """
        from harness.ray import find_dead_daemon

        self.interrupts.check(stop)
        dead_process = find_dead_daemon()
        if dead_process is not None:
            self.interrupts.failure = RayLost(dead_process)
            # Tune lets a KeyboardInterrupt through. After any other exception it would ask the dead
            # Ray to stop its workers.
            raise KeyboardInterrupt

    def _warn(self, line: str | None) -> None:
        if line:
            self.options.print_line(f"warning: {line}")
