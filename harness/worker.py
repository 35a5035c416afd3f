"""Run trials one after the other in a worker process, by stepping through ship's run_trial."""

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
from harness.device import MachineLoad, PeakMemory, breaks_device, get_device_label
from harness.method import RunTrial, check_code
from harness.store import CORRECT_FILE, TRAINED, Cost
from ship.plugins import PluginError, load_origins, require_plugins
from ship.registry import EXITS, Origin
from ship.trial_config import EpochMetrics, TrialConfig

if TYPE_CHECKING:
    from ship.state import Checkpoint

logger = logging.getLogger(__name__)

# A result costs the driver about 2 ms and an epoch may be shorter, so epochs are sent together.
COALESCE_SECONDS = 1.0
BACKBONES_KEPT = 2


@dataclass
class Worker:
    """Runner of trials. A trial ends with a FINAL or a FAILED result, never with an exception.

    An exception of the method becomes a result (state FAIL and its reason), so that the worker can
    run the next trial with its loaded backbone. The traceback goes to the process's log.

    Attributes:
        features: Feature sets that trials need. Their arrays are read-only.
        run_trial: Function that runs a trial (harness.method).
        load_backbone: Function that loads a backbone (harness.method).
        threads: Number of torch threads of a trial.
        device: torch device of a trial.
        gpus: Number of GPUs of each trial, or its share of one.
        storage: Storage of checkpoints (harness.checkpoints). None for no checkpoints.
        checkpoint_every: Minimum seconds between two checkpoints. None writes none.
        seed_curves: Whether to send the values of each seed with the epochs.
        system_metrics: Whether to send the machine's load with the epochs.
        plugins: Plugins to load. Trials may use their generators, fine-tuners and metrics.
        gpu_is_broken: Whether the last trial has made the GPU unusable for this process.
    """

    features: Mapping[messages.FeatureKey, Any]
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
    gpu_is_broken: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Prepare the process for its trials."""
        # for libraries that read it when they are loaded; torch may be loaded already
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        import torch

        torch.set_num_threads(self.threads)
        if 0 < self.gpus < 1 and torch.device(self.device).type == "cuda":
            # a trial that needs more than its share fails, and not the trial next to it
            torch.cuda.set_per_process_memory_fraction(self.gpus)
        self._checkpoints = Checkpoints(self.storage, self.checkpoint_every)
        self._load = MachineLoad(self.device) if self.system_metrics else None
        self._backbones: dict[tuple[str, str], Any] = {}  # in the order of their last use

    def begin(self, config: Mapping[str, Any]) -> None:
        """Begin a trial.

        Args:
            config: Result of messages.make_trial_spec.
        """
        self._spec = json.loads(config["spec"])
        self._seeds: tuple[int, ...] = tuple(self._spec["seeds"])
        self._objective: str = self._spec["objective"]
        self._items: Iterator[EpochMetrics] | None = None  # drops an unfinished trial
        self._epochs: list[EpochMetrics] = []  # epochs reported so far
        self._selection: dict[int, messages.SeedValues] = {}
        self._test: EpochMetrics | None = None
        self._progress = "before its first epoch"
        self._seconds = 0.0
        self._checkpoints.begin(self._spec["checkpoint"])

    def step(self) -> dict[str, Any]:
        """Run epochs for about COALESCE_SECONDS, and return them as a result for Tune.

        If the scheduler may stop the trial, the step also ends at the next evaluated selection
        epoch.
        """
        started = time.monotonic()
        result: dict[str, Any] = {messages.EPOCHS: []}
        try:
            if self._items is None:
                trial, resume = self._parse(), self._checkpoints.read()
                if resume is not None and messages.FINAL in resume.notes:
                    return self._restore_result(resume)
                # not counted as time of the trial: a worker loads a backbone once for all trials
                clip = self._backbone(trial.backbone, trial.precision)
                started = time.monotonic()
                self._items = self._start(trial, clip, resume)
            self._advance(result, started + min(COALESCE_SECONDS, self._checkpoints.interval))
        except EXITS:
            raise
        except BaseException as error:  # a plugin may raise anything
            self._items = None
            self.gpu_is_broken = breaks_device(error)
            if self._checkpoints.reject(error):  # nothing was reported yet: start from scratch
                self._seconds = 0.0
                self._epochs.clear()
                return {messages.EPOCHS: []}
            logger.error("a trial failed %s", self._progress, exc_info=error)
            failed = messages.encode_failure(error, self._seeds, self._progress, self.gpus)
            return {**result, messages.FAILED: [failed], "done": True}
        self._seconds += time.monotonic() - started
        if self._load is not None:
            result[messages.MACHINE_LOAD] = self._load.sample()
        if messages.FINAL in result:
            (final,) = result[messages.FINAL]
            final["metrics"][Cost.SECONDS] = self._seconds
            numbers = {name: value for name, value in final.items() if name != "files"}
            notes: Notes = {messages.FINAL: json.dumps(numbers)}
            self._checkpoints.finish(self._epochs, final["files"], notes)
        else:
            notes = {"seconds": self._seconds, "text_tokens": self._tokens()}
            self._checkpoints.write(self._items, notes)
        return result

    def _backbone(self, name: str, precision: str) -> Any:
        """Return a loaded backbone. The least recently used one may be dropped to load it."""
        clip = self._backbones.pop((name, precision), None)
        if clip is None:
            if len(self._backbones) >= BACKBONES_KEPT:
                del self._backbones[next(iter(self._backbones))]
            clip = self.load_backbone(name, self.device, precision)
        self._backbones[name, precision] = clip
        return clip

    def _parse(self) -> TrialConfig:
        """Parse the trial's config, with the plugins that it uses.

        Raises:
            ValueError: This node has another version of ship-sweep or of a plugin, lacks a plugin,
                or refuses the config.
        """
        check_code(self._spec["code"])
        load_origins(self.plugins)
        try:
            require_plugins(self._spec["plugins"])
            return TrialConfig.model_validate_json(json.dumps(self._spec["trial"]))
        except (PluginError, ValidationError) as error:  # this node has another version
            raise ValueError(f"on this node: {' '.join(str(error).split())}") from error

    def _advance(self, result: dict[str, Any], deadline: float) -> None:
        """Run epochs until the deadline or the next evaluation, and add them to the result."""
        for item in self._items or ():
            self._progress = f"at stage {item.stage}, epoch {item.epoch}"
            self._epochs.append(item)
            result[messages.EPOCHS].append(self._message(item))
            if item.stage == "test":
                self._test = item
            if item.stage == "selection" and self._objective in item.per_seed:
                self._selection[item.epoch] = item.per_seed
                evaluations = len(self._selection)
                if self._has_training and 0 in self._selection:
                    evaluations -= 1  # epoch 0 is before the training
                if self._spec["may_stop"] and evaluations:
                    result[messages.EVALUATIONS] = evaluations
                    result[messages.LAST_VALUE] = fmean(item.active_values(self._objective))
                    return
            if time.monotonic() >= deadline:
                return
        result[messages.FINAL] = [self._final()]
        result["done"] = True

    def _message(self, item: EpochMetrics) -> dict[str, Any]:
        """Return the message with the metrics of an epoch."""
        return messages.make_epoch_message(item, self._seeds if self.seed_curves else ())

    def _restore_result(self, saved: "Checkpoint") -> dict[str, Any]:
        """Return the result of a finished trial that a previous driver did not record."""
        final = json.loads(str(saved.notes[messages.FINAL]))
        failed = final[messages.FAILED_SEEDS]  # its keys are text in JSON
        final[messages.FAILED_SEEDS] = {int(seed): reason for seed, reason in failed.items()}
        final["files"] = {name: value.numpy().tobytes() for name, value in saved.tensors.items()}
        epochs = [self._message(item) for item in saved.epochs]
        return {messages.EPOCHS: epochs, messages.FINAL: [final], "done": True}

    def _start(
        self, trial: TrialConfig, clip: Any, resume: "Checkpoint | None"
    ) -> Iterator[EpochMetrics]:
        """Start or resume a trial, and return the iterator of its epochs."""
        self._has_training = getattr(trial.finetuner, "epochs", 0) > 0
        self._tokens_before = int(getattr(clip, "text_tokens", 0))
        self._memory = PeakMemory(self.device)
        features, *target_sets = (self.features[need] for need in messages.list_feature_keys(trial))
        targets = dict(zip(trial.targets, target_sets, strict=True))
        expected = getattr(features, "backbone_fingerprint", None)
        if expected is not None and expected != clip.fingerprint:
            raise RuntimeError(
                f"the weights of backbone {trial.backbone} on this node differ from those of its "
                f"features"
            )
        self._clip = clip
        if resume is not None:
            self._seconds += float(resume.notes["seconds"])
            self._tokens_before -= int(resume.notes["text_tokens"])
        return iter(self.run_trial(trial, self._seeds, features, clip, targets, resume))

    def _tokens(self) -> int:
        """Return the number of tokens that the trial has passed through the text encoder."""
        return int(getattr(self._clip, "text_tokens", 0)) - self._tokens_before

    def _final(self) -> dict[str, Any]:
        """Return the content of FINAL: numbers and costs of the trial, and files of its run."""
        metrics = messages.make_final_numbers(
            self._test, self._selection, self._seeds, self._objective
        )
        failed = self._test.failed if self._test else {}
        active = [None if index in failed else seed for index, seed in enumerate(self._seeds)]
        metrics |= {Cost.PEAK_MEMORY: self._memory.mebibytes(), Cost.TEXT_TOKENS: self._tokens()}
        correct_predictions = messages.make_correct_file(
            self._test.correct_predictions if self._test else (), active
        )
        trained = getattr(self._items, "trained", None) or {}  # a ship.trial.run.TrialRun has it
        files = {CORRECT_FILE: correct_predictions} if correct_predictions else {}
        files |= {f"{TRAINED}/{name}": content for name, content in trained.items()}
        return {
            "metrics": metrics,
            "files": files,
            "device": get_device_label(self.device),
            messages.FAILED_SEEDS: {self._seeds[index]: reason for index, reason in failed.items()},
        }


class SharedFeatures(Mapping[messages.FeatureKey, Any]):
    """Feature sets in Ray's object store, which all workers of a node share without copying.

    A node fetches a feature set when one of its trials first needs it.
    """

    def __init__(self, references: Mapping[messages.FeatureKey, Any]) -> None:
        """Create the mapping from references to the feature sets."""
        self._references = references

    def __getitem__(self, need: messages.FeatureKey) -> Any:
        """Return a feature set, whose arrays are read-only."""
        return ray.get(self._references[need])

    def __iter__(self) -> Iterator[messages.FeatureKey]:
        """Iterate over the needs, without fetching features."""
        return iter(self._references)

    def __len__(self) -> int:
        """Return the number of feature sets."""
        return len(self._references)


class ShipTrainable(tune.Trainable):
    """Adapter of Worker to Ray Tune.

    harness.tuning.retries decides about trials whose process dies. The sweep creates a subclass
    with the attributes that its workers share.

    Attributes:
        shared: References to feature sets in Ray's object store.
        arguments: Other arguments of Worker.
    """

    shared: Mapping[messages.FeatureKey, Any]
    arguments: Mapping[str, Any]

    def setup(self, config: dict[str, Any]) -> None:
        """Prepare the process, and begin its first trial.

        SIGTERM is unblocked. It is blocked in Ray's processes, see
        harness.ray.session.block_sigterm. Processes that a plugin starts would inherit that, and
        multiprocessing ends them by SIGTERM.
        """
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._worker = Worker(SharedFeatures(self.shared), **self.arguments)
        self._worker.begin(config)

    def step(self) -> dict[str, Any]:
        """Call Worker.step."""
        return self._worker.step()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same process, unless the GPU has become unusable."""
        if self._worker.gpu_is_broken:
            os._exit(1)  # the trial is retried on another worker
        self._worker.begin(new_config)
        return True
