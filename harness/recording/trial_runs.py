"""The one writer of a sweep's trials: a run for each, or for what another study has finished."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from harness.config import StudyConfig
from harness.messages import LOST
from harness.planning import Adoption, Fingerprints, Work
from harness.recording.numbers import final_metrics, flag_tags, provenance_tags, summary_line
from harness.recording.study_run import StudyRun, setting_tags
from harness.store import (
    HITS,
    LOAD,
    OBJECTIVE,
    SAID,
    SEED_TABLE,
    TRAINED,
    Changes,
    Cost,
    Failure,
    Kind,
    Point,
    State,
    Tag,
    is_shown,
    kept_files,
    params,
    parse_seed_table,
    points,
    seed_metric,
    seed_table,
    split_curve,
    split_seed,
    trained_file,
)
from ship.checksum import add_checksum, check_content
from ship.trial_config import joined_reasons

# Tags that an adopted run takes from the run that computed it; others follow from its setting.
_MADE_BY = (Tag.CODE_VERSION, Tag.PACKAGES, Tag.SOURCE_COMMIT)
MAX_NAME = 250  # of a run, in MLflow's databases
# A trial's epochs are written no more often, and no more often than after a tenth of its time: a
# request takes the driver milliseconds, and holds up the other trials.
FLUSH_SECONDS, FLUSH_SHARE = 5.0, 0.1


@dataclass
class _Open:
    """A trial run that is being written; points: metrics that the store does not have yet."""

    run: str
    work: Work
    step: int = 0
    points: list[Point] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    flushed: float = field(default_factory=time.monotonic)


@dataclass
class TrialRecorder:
    """Writes trial runs as their results arrive; every method may raise StoreError.

    record: of the study that the trials are of.
    fingerprints: of the study's data and weights.
    """

    record: StudyRun
    study: StudyConfig
    fingerprints: Fingerprints
    _open: dict[str, _Open] = field(default_factory=dict)

    def start(self, trial_id: str, work: Work, tags: Mapping[str, str] | None = None) -> None:
        """Open the run of a trial, with its tags and params.

        Args:
            trial_id: what it is called until its end.
            work: that it does.
            tags: that hold in place of its own, or beside them.
        """
        self.record.want(work.setting)
        run = self._create_run(work, tags or {})
        self.record.store.write(Changes(run=run, params=params(work.setting.config)))
        self._open[trial_id] = _Open(run, work)

    def epochs(
        self,
        trial_id: str,
        epochs: Sequence[Mapping[str, Any]],
        load: Mapping[str, float],
    ) -> None:
        """Take a trial's new epochs; they are written at its end, and now and then before.

        Args:
            trial_id: Ray's id of it.
            epochs: as a worker gives them (harness.messages).
            load: of the machine that it runs on, by metric key; {}: not asked for.
        """
        run = self._open[trial_id]
        for epoch in epochs:
            if epoch["stage"] != "test":  # that is once, at the end, a final metric
                run.step += 1
                run.points += points(epoch["metrics"], run.step)
        run.points += points(load, run.step)
        moment = time.monotonic()
        if moment - run.flushed >= max(FLUSH_SECONDS, FLUSH_SHARE * (moment - run.started)):
            self.record.store.write(Changes(run=run.run, metrics=run.points))
            run.points.clear()
            run.flushed = moment

    def put(self, trial_id: str, epochs: Sequence[Point]) -> None:
        """Take a trial's epochs as they stand in the store already."""
        self._open[trial_id].points += epochs

    def complete(self, trial_id: str, final: Mapping[str, Any]) -> None:
        """Write files and numbers, then the state: a run that says COMPLETE has all of them.

        Seeds that have failed get a run of their own, and the trial's run loses them. Their run is
        written first: where the driver is killed in between, the next run of the study trains the
        other seeds again, and knows that these have failed.
        """
        run, failed = self._open[trial_id], final.get(LOST, {})
        seeds = tuple(seed for seed in run.work.seeds if seed not in failed)
        protocol = run.work.setting.config.protocol
        if failed:
            reason = joined_reasons(failed)
            lost: dict[str, str] = {Tag.FAILURE: Failure.NON_FINITE, Tag.REASON: reason}
            work = replace(run.work, seeds=tuple(failed))
            run_id, texts = self._create_run(work, lost), params(work.setting.config)
            self.record.store.write(Changes(run=run_id, params=texts, state=State.FAIL))
        # at step 0: beyond it, MLflow draws each as a curve of one point, not as bars
        metrics = final_metrics(final["metrics"], seeds, protocol)
        objective = run.work.setting.config.selection_metric or ""
        run.points += points(
            {key: value for key, value in metrics.items() if is_shown(key, protocol, objective)}
        )
        final["files"][SEED_TABLE] = seed_table(metrics)
        for name, content in final["files"].items():
            # each for itself: where an answer is lost, one file is written again
            self.record.store.write(Changes(run=run.run, files={name: content}))
        final["files"].clear()  # Tune holds every trial's last result to the study's end
        tags = {Tag.DEVICE: str(final["device"]), **flag_tags(final["metrics"], seeds)}
        tags[Tag.RUN_NOTE] = summary_line(metrics, len(seeds), protocol)
        if failed:
            tags[Tag.SEEDS] = json.dumps(seeds)
        self._close(trial_id, State.COMPLETE, tags)

    def end(
        self, trial_id: str, state: State, reason: str, failure: Failure = Failure.ERROR
    ) -> None:
        """The trial has no number.

        Args:
            trial_id: Ray's id of it.
            state: PRUNED by the scheduler, FAIL, or INTERRUPTED by something that says nothing
                about its setting.
            reason: one line for people.
            failure: the kind of failure; it counts for FAIL alone.
        """
        tags: dict[str, str] = {Tag.FAILURE: failure} if state is State.FAIL else {}
        note = f"{state.lower()}: {reason}"
        self._close(trial_id, state, {**tags, Tag.REASON: reason, Tag.RUN_NOTE: note})

    def interrupt_all(self, reason: str) -> None:
        """Leave nothing RUNNING."""
        for trial_id in list(self._open):
            self.end(trial_id, State.INTERRUPTED, reason)

    def _close(self, trial_id: str, state: State, tags: Mapping[str, str]) -> None:
        run = self._open[trial_id]
        self.record.store.write(Changes(run=run.run, metrics=run.points, tags=tags, state=state))
        del self._open[trial_id]

    def _create_run(self, work: Work, tags: Mapping[str, str]) -> str:
        """Create a run of some seeds of a setting, and return its ID.

        Args:
            work: The setting and the seeds.
            tags: Tags in addition to those of the work, or in their place.
        """
        name = (work.setting.label or "constants")[:MAX_NAME]
        tags = {**self._tags(work), **tags}
        return self.record.store.create_run(self.record.experiment_id, name, tags)

    def _tags(self, work: Work) -> dict[str, str]:
        setting = work.setting
        return {
            Tag.PARENT_RUN: self.record.run_id,
            Tag.KIND: Kind.TRIAL,
            Tag.STATE: State.RUNNING,
            Tag.SEEDS: json.dumps(list(work.seeds)),
            Tag.DEVICE: "cuda" if self.study.resources.gpus else "cpu",
            **setting_tags(setting),
            **provenance_tags(setting, self.fingerprints),
        }


def adopt(recorder: TrialRecorder, one: Adoption) -> bool:
    """Write the seeds that a study takes of another's run into a run of its own.

    It is written as a trial's is: a driver that is killed on the way leaves a run that counts for
    nothing, and the next run of the study adopts it anew.

    Args:
        recorder: of the study, which may want what was trained, too.
        one: what to adopt.

    Returns:
        Whether it was written; not where its files cannot be read now, or what was trained is
        wanted and not there.
    """
    store, save = recorder.record.store, recorder.study.save
    run, seeds = one.known.logged, one.work.seeds
    files = store.read(lambda client: kept_files(client, run, trained=save))
    if files is None:
        return False
    numbers = _numbers_of(one, parse_seed_table(files.pop(SEED_TABLE, b"")))
    if save:
        files = _of_seeds(files, seeds)
        if files is None:
            return False
    whole = set(seeds) == set(one.known.seeds)
    keys = [key for key in run.metrics if _is_of_epochs(key, None if whole else seeds)]
    history = store.read(
        lambda client: [
            Point(one.key, one.value, one.timestamp, one.step)
            for key in keys
            for one in client.get_metric_history(run.run_id, key)
        ]
    )
    if not whole:
        history += _mean_curves(history)
    tags: dict[str, str] = {name: run.tags.get(name, "") for name in _MADE_BY}
    tags |= {Tag.ADOPTED_RUN: run.run_id, Tag.ADOPTED_STUDY: one.known.study}
    recorder.start(run.run_id, one.work, tags)
    recorder.put(run.run_id, history)
    device = run.tags.get(Tag.DEVICE, "")
    recorder.complete(run.run_id, {"metrics": numbers, "files": files, "device": device})
    return True


def _of_seeds(files: Mapping[str, bytes], seeds: Sequence[int]) -> dict[str, bytes] | None:
    """A run's files without what was trained under other seeds, which trained.json names no more.

    Args:
        files: of the run, by path.
        seeds: that are wanted.

    Returns:
        None where one of them is not there, or what they say of themselves is damaged.
    """
    path = f"{TRAINED}/{SAID}"
    try:
        said = json.loads(check_content(files[path]))
        said["seeds"] = [one for one in said["seeds"] if one["seed"] in seeds]
        names = [f"{TRAINED}/{trained_file(seed)}" for seed in seeds]
        own = {name: files[name] for name in names}
    except (ValueError, KeyError, TypeError):
        return None
    hits = {name: content for name, content in files.items() if name == HITS}
    return {**hits, **own, path: add_checksum(said)}


def _is_of_epochs(key: str, seeds: Sequence[int] | None) -> bool:
    """Return True if a metric is recorded over epochs, and describes no seed but the given ones.

    Args:
        key: Key of the metric in the store.
        seeds: Seeds that are reused. Defaults to all seeds of the run. A mean over seeds describes
            these only if they are all.
    """
    if key.startswith("test/") or key in (OBJECTIVE, *Cost) or split_seed(key) is not None:
        return False
    if seeds is None or key.startswith(LOAD):
        return True
    of_seed = split_curve(key)
    return of_seed is not None and of_seed[0] in seeds


def _mean_curves(history: Sequence[Point]) -> list[Point]:
    """Compute the curves of the means over seeds from the curves of single seeds.

    Args:
        history: Points of the reused seeds. Without `record.seed_curves` there are no such curves,
            and no means either.
    """
    values: dict[tuple[str, int], list[Point]] = {}
    for point in history:
        if of_seed := split_curve(point.key):
            values.setdefault((of_seed[1], point.step), []).append(point)
    return [
        Point(name, fmean(point.value for point in points), points[0].timestamp, step)
        for (name, step), points in values.items()
    ]


def _numbers_of(one: Adoption, table: Mapping[str, float]) -> dict[str, float]:
    """Return the final numbers of an adoption's seeds, with their share of what the run took.

    Args:
        one: The adoption.
        table: Numbers of the run's seed table.
    """
    metrics, seeds = {**table, **one.known.logged.metrics}, one.work.seeds
    share = len(seeds) / len(one.known.seeds)
    divided = {Cost.SECONDS: share, Cost.TEXT_TOKENS: share}
    numbers: dict[str, float] = {
        **{key: of for key, of in metrics.items() if (own := split_seed(key)) and own[0] in seeds},
        **{name: metrics[name] * divided.get(name, 1.0) for name in Cost if name in metrics},
    }
    if objective := one.work.setting.config.selection_metric:
        keys = [seed_metric(seed, f"selection/{objective}") for seed in seeds]
        numbers[OBJECTIVE] = fmean(numbers[key] for key in keys)
    return numbers
