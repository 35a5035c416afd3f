"""What runs trials, one after the other, in whatever process: steps through ship's run_trial."""

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

import ray
from pydantic import ValidationError
from ray import tune

from harness import messages
from harness.checkpoints import Checkpoints, Notes, Storage
from harness.device import MachineLoad, PeakMemory, breaks_device, device_label
from harness.method import RunTrial, check_code
from harness.store import HITS, TRAINED, Cost
from ship.plugins import PluginError, load_carried, require_builders
from ship.registry import EXITS, Origin
from ship.trial_config import EpochMetrics, TrialConfig

if TYPE_CHECKING:
    from ship.state import Checkpoint

logger = logging.getLogger(__name__)

# A result costs the driver some 2 ms, and a method's epoch may take less: they travel together.
COALESCE_SECONDS = 1.0
BACKBONES_KEPT = 2


@dataclass
class Worker:
    """Runs a setting under its seeds; ends with a FINAL or a FAILED result, no exception.

    An exception of the method is data (state FAIL and its reason), so that the worker, with the
    backbone it has loaded, serves the next trial; its traceback goes to the process's log.

    features: the feature sets that trials need, read-only arrays.
    run_trial, load_backbone: the method (harness.method).
    threads: torch threads of a trial.
    device: torch device.
    gpus: that each trial holds.
    storage, checkpoint_every: of its checkpoints (harness.checkpoints).
    seed_curves: whether epochs travel with each seed's values.
    system_metrics: whether the machine's load travels with them.
    plugins: files whose generators, fine-tuners and datasets the trials may use.
    broken: whether the last trial has broken the GPU for this process.
    """

    features: Mapping[messages.Need, Any]
    run_trial: RunTrial
    load_backbone: Callable[..., Any]
    threads: int = 1
    device: str = "cpu"
    gpus: float = 0
    storage: Storage | None = None
    checkpoint_every: float | None = None
    seed_curves: bool = False
    system_metrics: bool = False
    plugins: tuple[Origin, ...] = ()
    broken: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Prepare the process for its trials."""
        # for libraries that read it when they load; torch may be loaded already
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        import torch

        torch.set_num_threads(self.threads)
        self._checkpoints = Checkpoints(self.storage, self.checkpoint_every)
        self._load = MachineLoad(self.device) if self.system_metrics else None
        self._backbones: dict[tuple[str, str], Any] = {}  # the last one used is the last

    def begin(self, config: Mapping[str, Any]) -> None:
        """Turn to a trial.

        Args:
            config: what trial_spec returned.
        """
        self._spec = json.loads(config["spec"])
        self._seeds: tuple[int, ...] = tuple(self._spec["seeds"])
        self._objective: str = self._spec["objective"]
        self._items: Iterator[EpochMetrics] | None = None  # of a half-run trial nothing stays
        self._epochs: list[EpochMetrics] = []  # that it has reported
        self._selection: dict[int, messages.PerReplica] = {}
        self._test: EpochMetrics | None = None
        self._last = "before its first epoch"
        self._seconds = 0.0
        self._checkpoints.begin(self._spec["checkpoint"])

    def step(self) -> dict[str, Any]:
        """Run epochs for about COALESCE_SECONDS, or up to what the scheduler may stop the trial by.

        That is the next evaluated selection epoch of a trial that it may stop.
        """
        started = time.monotonic()
        result: dict[str, Any] = {messages.EPOCHS: []}
        try:
            if self._items is None:
                trial, resume = self._parse(), self._checkpoints.read()
                if resume is not None and messages.FINAL in resume.notes:
                    return self._finished(resume)
                # before the clock: a worker loads it once, for all the trials that it serves
                clip = self._backbone(trial.backbone, trial.precision)
                started = time.monotonic()
                self._items = self._start(trial, clip, resume)
            self._advance(result, started + min(COALESCE_SECONDS, self._checkpoints.every))
        except EXITS:
            raise
        except BaseException as error:  # a plugin may raise anything
            self._items = None
            self.broken = breaks_device(error)
            if self._checkpoints.refuses(error):  # before it reported anything: from the start
                self._seconds = 0.0
                self._epochs.clear()
                return {messages.EPOCHS: []}
            logger.error("a trial failed %s", self._last, exc_info=error)
            failed = messages.failure(error, self._seeds, self._last, self.gpus)
            return {**result, messages.FAILED: [failed], "done": True}
        self._seconds += time.monotonic() - started
        if self._load is not None:
            result[messages.MACHINE_LOAD] = self._load.sample()
        if messages.FINAL in result:
            (final,) = result[messages.FINAL]
            final["metrics"][Cost.SECONDS] = self._seconds
            plain = {name: value for name, value in final.items() if name != "files"}
            notes: Notes = {messages.FINAL: json.dumps(plain)}
            self._checkpoints.finish(self._epochs, final["files"], notes)
        else:
            notes = {"seconds": self._seconds, "text_tokens": self._tokens()}
            self._checkpoints.write(self._items, notes)
        return result

    def _backbone(self, name: str, precision: str) -> Any:
        """The backbone of a name and a precision; the oldest goes before another is loaded."""
        clip = self._backbones.pop((name, precision), None)
        if clip is None:
            if len(self._backbones) >= BACKBONES_KEPT:
                del self._backbones[next(iter(self._backbones))]
            clip = self.load_backbone(name, self.device, precision)
        self._backbones[name, precision] = clip
        return clip

    def _parse(self) -> TrialConfig:
        """The trial's settings, read with the plugins that they name.

        Raises:
            ValueError: this node has other versions of ship-sweep or a plugin, lacks a plugin, or
                reads the settings otherwise.
        """
        check_code(self._spec["code"])
        load_carried(self.plugins)
        try:
            require_builders(self._spec["plugins"])
            return TrialConfig.model_validate_json(json.dumps(self._spec["trial"]))
        except (PluginError, ValidationError) as error:  # another version of the settings is here
            raise ValueError(f"on this node: {' '.join(str(error).split())}") from error

    def _advance(self, result: dict[str, Any], deadline: float) -> None:
        for item in self._items or ():
            self._last = f"at stage {item.stage}, epoch {item.epoch}"
            self._epochs.append(item)
            result[messages.EPOCHS].append(self._message(item))
            if item.stage == "test":
                self._test = item
            if item.stage == "selection" and self._objective in item.per_replica:
                self._selection[item.epoch] = item.per_replica
                evaluations = len(self._selection)
                if self._learns and 0 in self._selection:
                    evaluations -= 1  # epoch 0 says little about a setting that is trained
                if self._spec["may_stop"] and evaluations:
                    result[messages.EVALUATIONS] = evaluations
                    result[messages.LAST_VALUE] = fmean(item.living(self._objective))
                    return
            if time.monotonic() >= deadline:
                return
        result[messages.FINAL] = [self._final()]
        result["done"] = True

    def _message(self, item: EpochMetrics) -> dict[str, Any]:
        """Return the metrics of an epoch as the driver gets them."""
        return messages.epoch_metrics(item, self._seeds if self.seed_curves else ())

    def _finished(self, saved: "Checkpoint") -> dict[str, Any]:
        """Return the only result of a trial that finished under a driver that did not record it."""
        final = json.loads(str(saved.notes[messages.FINAL]))
        lost = final[messages.LOST]  # JSON has made texts of its keys
        final[messages.LOST] = {int(seed): reason for seed, reason in lost.items()}
        final["files"] = {name: value.numpy().tobytes() for name, value in saved.tensors.items()}
        epochs = [self._message(item) for item in saved.epochs]
        return {messages.EPOCHS: epochs, messages.FINAL: [final], "done": True}

    def _start(
        self, trial: TrialConfig, clip: Any, resume: "Checkpoint | None"
    ) -> Iterator[EpochMetrics]:
        self._learns = getattr(trial.finetuner, "epochs", 0) > 0
        self._tokens_before = int(getattr(clip, "text_tokens", 0))
        self._memory = PeakMemory(self.device)
        features, *others = (self.features[need] for need in messages.needs_of(trial))
        targets = dict(zip(trial.targets, others, strict=True))
        wanted = getattr(features, "backbone_fingerprint", None)
        if wanted is not None and wanted != clip.fingerprint:
            raise RuntimeError(
                f"backbone {trial.backbone} has other weights on this node than its features are of"
            )
        self._clip = clip
        if resume is not None:
            self._seconds += float(resume.notes["seconds"])
            self._tokens_before -= int(resume.notes["text_tokens"])
        return iter(self.run_trial(trial, self._seeds, features, clip, targets, resume))

    def _tokens(self) -> int:
        """What the trial has sent through the text tower."""
        return int(getattr(self._clip, "text_tokens", 0)) - self._tokens_before

    def _final(self) -> dict[str, Any]:
        """The final numbers of the trial, what it cost, and the files that its run keeps."""
        given = self._test, self._selection, self._seeds, self._objective
        metrics = messages.final_numbers(*given)
        failed = self._test.failed if self._test else {}
        living = [None if p in failed else seed for p, seed in enumerate(self._seeds)]
        metrics |= {Cost.PEAK_MEMORY: self._memory.megabytes(), Cost.TEXT_TOKENS: self._tokens()}
        hits = messages.hits_file(self._test.hits if self._test else (), living)
        trained = getattr(self._items, "trained", None) or {}  # of a ship.trial.run.TrialRun
        files = {HITS: hits} if hits else {}
        files |= {f"{TRAINED}/{name}": content for name, content in trained.items()}
        return {
            "metrics": metrics,
            "files": files,
            "device": device_label(self.device),
            messages.LOST: {self._seeds[place]: reason for place, reason in failed.items()},
        }


class ShipTrainable(tune.Trainable):
    """A worker as Ray Tune has it: Tune's calls, handed to a Worker.

    What becomes of a trial whose process dies is for harness.tuning.endings to say. The sweep makes
    a class of its own of this, with what its workers share.

    Attributes:
        shared: feature sets in Ray's object store.
        arguments: the others of Worker.
    """

    shared: Mapping[messages.Need, Any]
    arguments: Mapping[str, Any]

    def setup(self, config: dict[str, Any]) -> None:
        """Read the features, zero-copy, and prepare the process, then its first trial.

        SIGTERM is blocked in processes of Ray's (harness.ray.session.sigterm_blocked). A plugin's
        own processes inherit the mask, and multiprocessing ends them by SIGTERM.
        """
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        features = {key: ray.get(reference) for key, reference in self.shared.items()}
        self._worker = Worker(features, **self.arguments)
        self._worker.begin(config)

    def step(self) -> dict[str, Any]:
        """See Worker.step."""
        return self._worker.step()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial in the same process, unless the last one has broken its GPU."""
        if self._worker.broken:
            os._exit(1)  # the trial is tried again, on another worker
        self._worker.begin(new_config)
        return True
