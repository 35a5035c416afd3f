"""Write the runs of trials, including runs with results reused from another study."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from harness.config import StudyConfig
from harness.messages import FAILED_SEEDS
from harness.planning import Fingerprints, ReusedRun, Work
from harness.recording.numbers import (
    compute_final_metrics,
    format_summary,
    make_flag_tags,
    make_provenance_tags,
)
from harness.recording.study_run import ParentRun, make_configuration_tags
from harness.store import (
    CORRECT_FILE,
    LOAD,
    OBJECTIVE,
    SEEDS_CSV,
    TRAINED,
    TRAINED_MANIFEST,
    Cost,
    Failure,
    Kind,
    Point,
    RunUpdate,
    State,
    StoreError,
    StoreUnavailable,
    Tag,
    format_param,
    format_seeds_csv,
    is_logged,
    list_logged_names,
    list_model,
    list_params,
    make_points,
    name_seed_metric,
    name_trained_file,
    parse_seeds_csv,
    read_run_files,
    split_curve,
    split_seed,
)
from ship.checksum import add_checksum, strip_checksum
from ship.trial_config import join_reasons

logger = logging.getLogger(__name__)

# Tags that a reused result keeps from the run that computed it, in addition to the device.
_COPIED_TAGS = (Tag.CODE_VERSION, Tag.PACKAGES, Tag.SOURCE_COMMIT)
MAX_NAME = 250  # characters of a run's name in MLflow's databases
# Minimum interval between writes of a trial's epochs: the larger of FLUSH_SECONDS and FLUSH_SHARE
# times the trial's time so far. Each request costs the driver milliseconds, during which other
# trials wait.
FLUSH_SECONDS, FLUSH_SHARE = 5.0, 0.1


@dataclass
class _OpenRun:
    """A trial's run that is being written.

    Attributes:
        run_id: MLflow's ID of the run.
        work: Work of the trial.
        step: Step of the last epoch.
        points: Points of metrics that have not been written yet.
        started_at: Time of the start, by time.monotonic.
        flushed_at: Time of the last write of metrics, by time.monotonic.
    """

    run_id: str
    work: Work
    step: int = 0
    points: list[Point] = field(default_factory=list)
    started_at: float = field(default_factory=time.monotonic)
    flushed_at: float = field(default_factory=time.monotonic)


@dataclass
class TrialRecorder:
    """Writer of trials' runs while results arrive. Every method may raise StoreError.

    Attributes:
        parent_run: The study's own run.
        study: The study. Its resources must be resolved.
        fingerprints: Fingerprints of the study's data and weights.
    """

    parent_run: ParentRun
    study: StudyConfig
    fingerprints: Fingerprints
    _open: dict[str, _OpenRun] = field(default_factory=dict)

    def start(self, trial_id: str, work: Work, tags: Mapping[str, str] | None = None) -> None:
        """Create the run of a trial, and write its tags and params.

        Args:
            trial_id: ID of the trial in later calls.
            work: Configuration and seeds of the trial.
            tags: Additional tags. They replace default tags of the same names.
        """
        self.parent_run.add_planned(work.configuration)
        run = self._create_run(work, tags or {})
        config = work.configuration.trial
        names = (config.dataset, *config.targets)
        datasets = {name: self.fingerprints.dataset_fingerprint(name) for name in names}
        self.parent_run.store.write(
            RunUpdate(run_id=run, params=list_params(config), datasets=datasets)
        )
        self._open[trial_id] = _OpenRun(run, work)

    def add_epochs(
        self,
        trial_id: str,
        epochs: Sequence[Mapping[str, Any]],
        load: Mapping[str, float],
    ) -> None:
        """Add new epochs of a trial.

        They are written every few seconds (see FLUSH_SECONDS) and at the end of the trial.

        Args:
            trial_id: ID of the trial.
            epochs: Epochs as a worker sends them (harness.messages).
            load: Load of the worker's machine by metric key. {} if not requested.
        """
        run = self._open[trial_id]
        for epoch in epochs:
            if epoch["stage"] != "test":  # test metrics are final metrics, without epochs
                run.step += 1
                run.points += make_points(epoch["metrics"], run.step)
        run.points += make_points(load, run.step)
        now = time.monotonic()
        if now - run.flushed_at >= max(FLUSH_SECONDS, FLUSH_SHARE * (now - run.started_at)):
            self.parent_run.store.write(RunUpdate(run_id=run.run_id, metrics=run.points))
            run.points.clear()
            run.flushed_at = now

    def add_points(self, trial_id: str, metric_points: Sequence[Point]) -> None:
        """Add points of metrics to an open run, such as the curves of a reused run."""
        self._open[trial_id].points += metric_points

    def complete(self, trial_id: str, final: Mapping[str, Any]) -> None:
        """Write the result of a trial and close its run.

        The state is written last, so a COMPLETE run has all numbers. Seeds that failed are moved to
        a separate run with state FAIL, which is written first. If the driver is killed after that,
        the next run of the study retrains only the other seeds.

        Args:
            trial_id: ID of the trial.
            final: Final result of the trial as a worker sends it (harness.messages).
        """
        run, failed = self._open[trial_id], final.get(FAILED_SEEDS, {})
        seeds = tuple(seed for seed in run.work.seeds if seed not in failed)
        protocol = run.work.configuration.trial.protocol
        if failed:
            reason = join_reasons(failed)
            failure_tags: dict[str, str] = {Tag.FAILURE: Failure.NON_FINITE, Tag.REASON: reason}
            work = replace(run.work, seeds=tuple(failed))
            run_id = self._create_run(work, failure_tags)
            params = list_params(work.configuration.trial)
            self.parent_run.store.write(RunUpdate(run_id=run_id, params=params, state=State.FAIL))
        metrics = compute_final_metrics(final["metrics"], seeds, protocol)
        objective = run.work.configuration.trial.selection_metric or ""
        logged_names = list_logged_names(protocol, objective)
        # at step 0, which MLflow draws as bars; it would draw another step as a curve of one point
        final_points = make_points(
            {key: value for key, value in metrics.items() if is_logged(key, logged_names)}
        )
        run.points += final_points
        files = final["files"]
        saved = [seed for seed in seeds if f"{TRAINED}/{name_trained_file(seed)}" in files]
        files[SEEDS_CSV] = format_seeds_csv(metrics)
        for name, content in files.items():
            # one request per file: if an answer is lost, only that file is sent again
            self.parent_run.store.write(RunUpdate(run_id=run.run_id, files={name: content}))
        files.clear()  # frees memory: Tune keeps the last result of every trial
        tags = {Tag.DEVICE: str(final["device"]), **make_flag_tags(final["metrics"], seeds)}
        tags[Tag.RUN_NOTE] = format_summary(metrics, len(seeds), protocol)
        if failed:
            tags[Tag.SEEDS] = json.dumps(seeds)
        self._close(trial_id, State.COMPLETE, tags)
        if saved:
            self._list_model(run, saved, final_points)

    def _list_model(self, run: _OpenRun, seeds: Sequence[int], metrics: Sequence[Point]) -> None:
        """List a finished run's trained models on MLflow's page. If that fails, log a warning.

        Args:
            run: The finished run.
            seeds: Seeds with a saved model.
            metrics: Final points of the run. Only test metrics' means over seeds are listed.

        Raises:
            StoreUnavailable: The store did not answer within the study's timeout.
        """
        configuration = run.work.configuration
        name = f"{self.study.name} {configuration.label}".strip()[:MAX_NAME]
        levels = {key: format_param(value) for key, value in configuration.assignment.items()}
        means = [
            point
            for point in metrics
            if point.key.startswith("test/") and split_seed(point.key) is None
        ]
        store = self.parent_run.store
        try:
            store.call(lambda: list_model(store.client, run.run_id, name, seeds, levels, means))
        except StoreUnavailable:
            raise
        except StoreError as error:
            logger.warning(
                "the models of run %s are saved, but MLflow's page does not list them: %s",
                run.run_id,
                error,
            )

    def end(
        self, trial_id: str, state: State, reason: str, failure: Failure = Failure.ERROR
    ) -> None:
        """Close the run of a trial that ended without a result.

        Args:
            trial_id: ID of the trial.
            state: PRUNED if the scheduler stopped the trial, INTERRUPTED if the trial is retried
                or the run of the study ended first, or FAIL.
            reason: Reason in one line.
            failure: Kind of failure. Ignored unless `state` is FAIL.
        """
        tags: dict[str, str] = {Tag.FAILURE: failure} if state is State.FAIL else {}
        note = f"{state.lower()}: {reason}"
        self._close(trial_id, state, {**tags, Tag.REASON: reason, Tag.RUN_NOTE: note})

    def interrupt_all(self, reason: str) -> None:
        """Close the runs of all open trials as INTERRUPTED."""
        for trial_id in list(self._open):
            self.end(trial_id, State.INTERRUPTED, reason)

    def _close(self, trial_id: str, state: State, tags: Mapping[str, str]) -> None:
        run = self._open[trial_id]
        self.parent_run.store.write(
            RunUpdate(run_id=run.run_id, metrics=run.points, tags=tags, state=state)
        )
        del self._open[trial_id]

    def _create_run(self, work: Work, tags: Mapping[str, str]) -> str:
        """Create a run and return its ID.

        Args:
            work: Configuration and seeds of the run.
            tags: Additional tags. They replace default tags of the same names.
        """
        name = (work.configuration.label or "constants")[:MAX_NAME]
        tags = {**self._make_tags(work), **tags}
        return self.parent_run.store.create_run(self.parent_run.experiment_id, name, tags)

    def _make_tags(self, work: Work) -> dict[str, str]:
        configuration = work.configuration
        return {
            Tag.PARENT_RUN: self.parent_run.run_id,
            Tag.KIND: Kind.TRIAL,
            Tag.STATE: State.RUNNING,
            Tag.SEEDS: json.dumps(list(work.seeds)),
            Tag.DEVICE: "cuda" if self.study.resources.gpus else "cpu",
            **make_configuration_tags(configuration),
            **make_provenance_tags(configuration, self.fingerprints),
        }


def record_reused(recorder: TrialRecorder, reused: ReusedRun) -> bool:
    """Copy reused results of another study's run into a new run of this study.

    The new run is written like the run of a trial. If the driver is killed before the new run is
    complete, the next driver copies the results again.

    Args:
        recorder: Recorder of the study that reuses the results.
        reused: Results to reuse.

    Returns:
        True if the run was written. False if the files of the other run cannot be read, or if the
        study saves trained models and the other run lacks one.
    """
    store, save = recorder.parent_run.store, recorder.study.save_models
    run, seeds = reused.run.logged, reused.work.seeds
    files = store.read(lambda client: read_run_files(client, run, trained=save))
    if files is None:
        return False
    numbers = _select_numbers(reused, parse_seeds_csv(files.pop(SEEDS_CSV, b"")))
    if save:
        files = _select_files(files, seeds)
        if files is None:
            return False
    has_all_seeds = set(seeds) == set(reused.run.seeds)
    keys = [key for key in run.metrics if _is_reusable_curve(key, None if has_all_seeds else seeds)]
    curve_points = store.read(
        lambda client: [
            Point(metric.key, metric.value, metric.timestamp, metric.step)
            for key in keys
            for metric in client.get_metric_history(run.run_id, key)
        ]
    )
    if not has_all_seeds:
        curve_points += _compute_mean_curves(curve_points)
    tags: dict[str, str] = {name: run.tags.get(name, "") for name in _COPIED_TAGS}
    tags |= {Tag.REUSED_RUN: run.run_id, Tag.REUSED_STUDY: reused.run.study_name}
    recorder.start(run.run_id, reused.work, tags)
    recorder.add_points(run.run_id, curve_points)
    device = run.tags.get(Tag.DEVICE, "")
    recorder.complete(run.run_id, {"metrics": numbers, "files": files, "device": device})
    return True


def _select_files(files: Mapping[str, bytes], seeds: Sequence[int]) -> dict[str, bytes] | None:
    """Return the files to copy: correct predictions, and the trained models of some seeds.

    Entries of other seeds are removed from trained.json.

    Args:
        files: Contents of the run's files by path.
        seeds: Seeds whose models to return.

    Returns:
        The files. None if the model of a seed is missing, or trained.json is damaged.
    """
    path = f"{TRAINED}/{TRAINED_MANIFEST}"
    try:
        manifest = json.loads(strip_checksum(files[path]))
        manifest["seeds"] = [entry for entry in manifest["seeds"] if entry["seed"] in seeds]
        names = [f"{TRAINED}/{name_trained_file(seed)}" for seed in seeds]
        models = {name: files[name] for name in names}
    except (ValueError, KeyError, TypeError):
        return None
    correct_predictions = {name: content for name, content in files.items() if name == CORRECT_FILE}
    return {**correct_predictions, **models, path: add_checksum(manifest)}


def _is_reusable_curve(key: str, seeds: Sequence[int] | None) -> bool:
    """Return True if a metric is logged over epochs and contains only reused seeds.

    Args:
        key: Key of the metric in the store.
        seeds: Reused seeds. None if all seeds of the run are reused. Curves of means over seeds are
            reusable only in that case.
    """
    if key.startswith("test/") or key in (OBJECTIVE, *Cost) or split_seed(key) is not None:
        return False
    if seeds is None or key.startswith(LOAD):
        return True
    seed_and_name = split_curve(key)
    return seed_and_name is not None and seed_and_name[0] in seeds


def _compute_mean_curves(curve_points: Sequence[Point]) -> list[Point]:
    """Compute the curves of means over seeds from the curves of single seeds.

    Args:
        curve_points: Points of curves. Those that are not of a single seed are ignored. Without
            `log.seed_curves` there are no curves of single seeds, and the result is [].
    """
    points_by_epoch: dict[tuple[str, int], list[Point]] = {}  # by name of the metric and step
    for point in curve_points:
        if seed_and_name := split_curve(point.key):
            points_by_epoch.setdefault((seed_and_name[1], point.step), []).append(point)
    return [
        Point(name, fmean(point.value for point in points), points[0].timestamp, step)
        for (name, step), points in points_by_epoch.items()
    ]


def _select_numbers(reused: ReusedRun, seeds_csv_numbers: Mapping[str, float]) -> dict[str, float]:
    """Return the final numbers of the reused seeds, their objective, and their share of the costs.

    Args:
        reused: Results to reuse.
        seeds_csv_numbers: Numbers of the run's seeds.csv. The run's metrics take precedence.
    """
    metrics, seeds = {**seeds_csv_numbers, **reused.run.logged.metrics}, reused.work.seeds
    share = len(seeds) / len(reused.run.seeds)
    shares = {Cost.SECONDS: share, Cost.TEXT_TOKENS: share}  # peak memory is not divided
    numbers: dict[str, float] = {
        key: value
        for key, value in metrics.items()
        if (seed_and_name := split_seed(key)) and seed_and_name[0] in seeds
    }
    numbers |= {name: metrics[name] * shares.get(name, 1.0) for name in Cost if name in metrics}
    if objective := reused.work.configuration.trial.selection_metric:
        keys = [name_seed_metric(seed, f"selection/{objective}") for seed in seeds]
        numbers[OBJECTIVE] = fmean(numbers[key] for key in keys)
    return numbers
