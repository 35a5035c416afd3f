"""The one writer of a sweep: a run for the study and a run a trial, written from the driver."""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.config import StudyConfig
from harness.planning import Fingerprints, Work
from harness.recording.numbers import final_metrics, flag_tags, load_ahead, provenance_tags
from harness.recording.study_run import StudyRecord, setting_tags
from harness.store import (
    Dataset,
    Store,
    log,
    log_entities,
    params,
    set_state,
    store_errors,
)
from reports.contract import ADDED_BY_PATH, HITS, Failure, Kind, State, Tag, curve_metric
from ship.trial_config import TrialConfig

MAX_NAME = 250  # of a run, in MLflow's databases

FLUSH_SECONDS = 1.0


@dataclass
class _Open:
    """A trial run that is being written."""

    run_id: str
    work: Work
    step: int = 0
    buffer: list[Any] = field(default_factory=list)
    flushed: float = field(default_factory=time.monotonic)


class TrialRecorder:
    """Writes trial runs as their results arrive; every method may raise StoreError."""

    def __init__(
        self,
        store: Store,
        experiment_id: str,
        record: StudyRecord,
        study: StudyConfig,
        fingerprints: Fingerprints,
    ) -> None:
        self._store = store
        self._writer = store.writer
        self._experiment_id = experiment_id
        self._record = record
        self._study = study
        self._fingerprints = fingerprints
        self._open: dict[str, _Open] = {}
        self._datasets: set[Dataset] = set()  # that the study's run names
        load_ahead()

    def start(self, trial_id: str, work: Work) -> None:
        """Open the run of a trial, with its tags and params."""
        setting = work.setting
        self._record.want(setting)
        run_id = self._store.create_run(self._experiment_id, run_name(work), self._tags(work))
        self._open[trial_id] = _Open(run_id, work)
        with store_errors(self._store.uri):
            log(self._writer, run_id, params=params(setting.config))
        self._log_datasets(run_id, setting.config)

    def _log_datasets(self, run_id: str, config: TrialConfig) -> None:
        """Name what the trial reads at its run, and at the study's unless it is there already."""
        names = {config.dataset: "training", **dict.fromkeys(config.targets, "test")}
        datasets = [
            Dataset(name, self._fingerprints.dataset(name), use) for name, use in names.items()
        ]
        self._store.log_datasets(run_id, datasets)
        new = [dataset for dataset in datasets if dataset not in self._datasets]
        if new:
            self._store.log_datasets(self._record.run_id, new)
            self._datasets.update(new)

    def epochs(
        self,
        trial_id: str,
        epochs: Sequence[Mapping[str, Any]],
        load: Mapping[str, float] | None = None,
    ) -> None:
        """Take a trial's new epochs; written at most once a second.

        Args:
            trial_id: Ray's id of it.
            epochs: means and, where they are asked for, each seed's values.
            load: of the machine that it runs on, by metric key; None: not asked for.
        """
        from mlflow.entities import Metric

        run = self._open[trial_id]
        now = int(time.time() * 1000)
        for epoch in epochs:
            if epoch["stage"] == "test":  # once, at the end, as a final metric
                continue
            run.step += 1
            # quality/NAME of selection stands beside selection's other metrics
            prefix = epoch["stage"].removesuffix("_quality")
            for name, value in epoch["means"].items():
                run.buffer.append(Metric(f"{prefix}/{name}", value, now, run.step))
            for name, values in epoch["seeds"].items():
                for seed, value in zip(run.work.seeds, values, strict=True):
                    key = curve_metric(seed, f"{prefix}/{name}")
                    run.buffer.append(Metric(key, value, now, run.step))
        for name, value in (load or {}).items():
            run.buffer.append(Metric(name, value, now, run.step))
        if time.monotonic() - run.flushed >= FLUSH_SECONDS:
            self._flush(run)

    def complete(self, trial_id: str, final: Mapping[str, Any]) -> None:
        """Write the final numbers, then the state: a run that says COMPLETE has all its numbers."""
        run = self._open[trial_id]
        self._flush(run)
        with store_errors(self._store.uri):
            log(
                self._writer,
                run.run_id,
                metrics=final_metrics(final, run.work.seeds, run.work.setting.config.protocol),
                step=0,  # beyond it, MLflow draws each as a curve of one point, not as bars
                timestamp=int(time.time() * 1000),
            )
        if final["hits"]:
            self._store.log_file(run.run_id, HITS, base64.b64decode(final["hits"]))
        for name, content in final["trained"].items():
            self._store.log_file(run.run_id, name, content)
        final["trained"].clear()  # Tune holds every trial's last result to the study's end
        tags = {
            Tag.DEVICE: str(final["device"]),
            **flag_tags(final, run.work.seeds),
        }
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
        self._close(trial_id, state, {**tags, Tag.REASON: reason})

    def interrupt_all(self, reason: str) -> None:
        """Leave nothing RUNNING."""
        for trial_id in list(self._open):
            self.end(trial_id, State.INTERRUPTED, reason)

    def _close(self, trial_id: str, state: State, tags: Mapping[str, str]) -> None:
        run = self._open[trial_id]
        self._flush(run)
        with store_errors(self._store.uri):
            set_state(self._writer, run.run_id, state, tags)
        del self._open[trial_id]

    def _flush(self, run: _Open) -> None:
        with store_errors(self._store.uri):
            log_entities(self._writer, run.run_id, run.buffer)
        run.buffer.clear()
        run.flushed = time.monotonic()

    def _tags(self, work: Work) -> dict[str, str]:
        setting = work.setting
        return {
            Tag.PARENT_RUN: self._record.run_id,
            Tag.KIND: Kind.TRIAL,
            Tag.STATE: State.RUNNING,
            Tag.SEEDS: json.dumps(list(work.seeds)),
            Tag.DEVICE: "cuda" if self._study.resources.gpus else "cpu",
            **setting_tags(setting),
            **({Tag.ADDED: ADDED_BY_PATH} if setting.for_path else {}),
            **provenance_tags(setting, self._fingerprints),
        }


def run_name(work: Work) -> str:
    """A trial run's name: the setting's label, cut to what a database takes."""
    return (work.setting.label or "constants")[:MAX_NAME]
