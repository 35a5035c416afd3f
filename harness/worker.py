"""Run trials in a worker process, one after another, and report their epochs to Ray Tune."""

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
from ship.registry import PROPAGATED_EXCEPTIONS, Origin
from ship.trial_config import EpochMetrics, TrialConfig

if TYPE_CHECKING:
    from ship.state import Checkpoint

logger = logging.getLogger(__name__)

# One result contains the epochs of this many seconds. An epoch may take less than 2 ms, which is
# the driver's time per result.
COALESCE_SECONDS = 1.0
MAX_BACKBONES = 2  # number of loaded backbones that a worker keeps


@dataclass
class Worker:
    """Runner of trials. The last result of each trial has the key FINAL or FAILED.

    An exception that ends a trial becomes a FAILED result, and its traceback is logged. The worker
    can then run the next trial with the loaded backbone. Only KeyboardInterrupt, SystemExit and
    GeneratorExit (ship.registry.PROPAGATED_EXCEPTIONS) are raised.

    Attributes:
        features: Feature sets of all trials. Their arrays are read-only.
        run_trial: Function that runs a trial (harness.method).
        load_backbone: Function that loads a backbone (harness.method).
        threads: Number of torch threads of a trial.
        device: torch device of a trial.
        gpus: Number of GPUs of each trial, or its share of one.
        storage: Storage of checkpoints (harness.checkpoints). If None, checkpoints are neither read
            nor written.
        checkpoint_every: Minimum seconds between two checkpoints. If None, existing checkpoints are
            read, but none are written.
        seed_curves: Whether an epoch's message has the values of each seed in addition to means.
        system_metrics: Whether results include the machine's load.
        plugins: Origins of the plugins to load before each trial.
        gpu_is_broken: Whether the last exception made the GPU unusable for this process.
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
        """Set the process's number of threads and its share of the GPU."""
        # Libraries read this when they are loaded. set_num_threads also works if
        # torch is loaded already.
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        import torch

        torch.set_num_threads(self.threads)
        if 0 < self.gpus < 1 and torch.device(self.device).type == "cuda":
            # A trial that exceeds its share runs out of memory itself, instead of starving the
            # trials that share the GPU.
            torch.cuda.set_per_process_memory_fraction(self.gpus)
        self._checkpoints = Checkpoints(self.storage, self.checkpoint_every)
        self._machine_load = MachineLoad(self.device) if self.system_metrics else None
        # (name, precision) -> loaded backbone, least recently used first
        self._backbones: dict[tuple[str, str], Any] = {}

    def begin(self, config: Mapping[str, Any]) -> None:
        """Begin a trial, and abandon the previous one if it is unfinished.

        Args:
            config: Result of messages.make_trial_spec.
        """
        self._spec = json.loads(config["spec"])
        self._seeds: tuple[int, ...] = tuple(self._spec["seeds"])
        self._objective: str = self._spec["objective"]
        self._epochs: Iterator[EpochMetrics] | None = None  # None until the first step
        self._past_epochs: list[EpochMetrics] = []
        # selection epoch -> its metrics per seed, for each evaluated epoch
        self._selection_values: dict[int, messages.SeedValues] = {}
        self._test_metrics: EpochMetrics | None = None
        self._progress = "before its first epoch"  # for messages about failures
        self._seconds = 0.0  # run time so far, including the time before the checkpoint
        self._checkpoints.begin(self._spec["checkpoint"])

    def step(self) -> dict[str, Any]:
        """Run epochs for about COALESCE_SECONDS, and return them as a result for Tune.

        If the scheduler may stop the trial, the step ends early after an evaluated selection epoch.

        Returns:
            The result, with the keys of harness.messages. If the checkpoint was unusable, EPOCHS is
            empty, and the next step starts the trial from its beginning.
        """
        started = time.monotonic()
        result: dict[str, Any] = {messages.EPOCHS: []}
        try:
            if self._epochs is None:
                trial = self._parse_config()
                checkpoint = self._checkpoints.read()
                if checkpoint is not None and messages.FINAL in checkpoint.notes:
                    return self._restore_result(checkpoint)
                clip = self._get_backbone(trial.backbone, trial.precision)
                # A trial's time excludes loading the backbone, which later trials need not do.
                started = time.monotonic()
                self._epochs = self._start_trial(trial, clip, checkpoint)
            deadline = started + min(COALESCE_SECONDS, self._checkpoints.interval)
            self._run_epochs(self._epochs, result, deadline)
        except PROPAGATED_EXCEPTIONS:
            raise
        except BaseException as error:  # a plugin may raise anything
            self._epochs = None
            self.gpu_is_broken = breaks_device(error)
            # An unusable checkpoint fails before the first epoch, so nothing was reported yet, and
            # the next step can start the trial from its beginning.
            if self._checkpoints.ignore_if_unusable(error):
                self._seconds = 0.0
                self._past_epochs.clear()
                return {messages.EPOCHS: []}
            logger.error("a trial failed %s", self._progress, exc_info=error)
            failed = messages.encode_failure(error, self._seeds, self._progress, self.gpus)
            return {**result, messages.FAILED: [failed], "done": True}
        self._seconds += time.monotonic() - started
        if self._machine_load is not None:
            result[messages.MACHINE_LOAD] = self._machine_load.sample()
        if messages.FINAL in result:
            (final_result,) = result[messages.FINAL]
            final_result["metrics"][Cost.SECONDS] = self._seconds
            numbers = {name: value for name, value in final_result.items() if name != "files"}
            notes: Notes = {messages.FINAL: json.dumps(numbers)}
            self._checkpoints.finish(self._past_epochs, final_result["files"], notes)
        else:
            notes = {"seconds": self._seconds, "text_tokens": self._count_text_tokens()}
            self._checkpoints.write(self._epochs, notes)
        return result

    def _get_backbone(self, name: str, precision: str) -> Any:
        """Return a backbone. Load it if necessary.

        At most MAX_BACKBONES stay loaded. Beyond that, the least recently used one is dropped.

        Args:
            name: Name of the backbone.
            precision: Precision of the trial.
        """
        clip = self._backbones.pop((name, precision), None)
        if clip is None:
            if len(self._backbones) >= MAX_BACKBONES:
                del self._backbones[next(iter(self._backbones))]
            clip = self.load_backbone(name, self.device, precision)
        self._backbones[name, precision] = clip
        return clip

    def _parse_config(self) -> TrialConfig:
        """Load the plugins, and parse the trial's config.

        Raises:
            ValueError: The version of ship-sweep or of a plugin differs from the driver's, a plugin
                is missing on this node, or the config is invalid on it.
        """
        check_code(self._spec["code"])
        load_origins(self.plugins)
        try:
            require_plugins(self._spec["plugins"])
            return TrialConfig.model_validate_json(json.dumps(self._spec["trial"]))
        except (PluginError, ValidationError) as error:  # this node has another version
            raise ValueError(f"on this node: {' '.join(str(error).split())}") from error

    def _run_epochs(
        self, epochs: Iterator[EpochMetrics], result: dict[str, Any], deadline: float
    ) -> None:
        """Run epochs, and add them to the result. At the trial's end, also add FINAL.

        Args:
            epochs: Iterator of the trial's epochs.
            result: Result for Tune, which is changed in place.
            deadline: Time, as of time.monotonic, after which no further epoch begins. If the
                scheduler may stop the trial, none begins after an evaluated selection epoch either.
        """
        for epoch in epochs:
            # if the next epoch fails, the message says that this was the last one before it
            self._progress = f"after epoch {epoch.epoch} of stage {epoch.stage}"
            self._past_epochs.append(epoch)
            result[messages.EPOCHS].append(self._make_epoch_message(epoch))
            if epoch.stage == "test":
                self._test_metrics = epoch
            if epoch.stage == "selection" and self._objective in epoch.per_seed:
                self._selection_values[epoch.epoch] = epoch.per_seed
                n_evaluations = len(self._selection_values)
                if self._has_training and 0 in self._selection_values:
                    n_evaluations -= 1  # epoch 0 is evaluated before the training
                if self._spec["may_stop"] and n_evaluations:
                    result[messages.EVALUATIONS] = n_evaluations
                    result[messages.LAST_VALUE] = fmean(epoch.active_values(self._objective))
                    return
            if time.monotonic() >= deadline:
                return
        result[messages.FINAL] = [self._make_final_result()]
        result["done"] = True

    def _make_epoch_message(self, epoch: EpochMetrics) -> dict[str, Any]:
        """Return the message with the metrics of an epoch."""
        return messages.make_epoch_message(epoch, self._seeds if self.seed_curves else ())

    def _restore_result(self, checkpoint: "Checkpoint") -> dict[str, Any]:
        """Return the result of a trial that has finished but was not recorded by its driver.

        Args:
            checkpoint: Checkpoint that Checkpoints.finish wrote at the end of the trial.
        """
        final_result = json.loads(str(checkpoint.notes[messages.FINAL]))
        failed = final_result[messages.FAILED_SEEDS]  # JSON has turned the seeds into text
        final_result[messages.FAILED_SEEDS] = {int(seed): reason for seed, reason in failed.items()}
        final_result["files"] = {
            name: value.numpy().tobytes() for name, value in checkpoint.tensors.items()
        }
        epochs = [self._make_epoch_message(epoch) for epoch in checkpoint.epochs]
        return {messages.EPOCHS: epochs, messages.FINAL: [final_result], "done": True}

    def _start_trial(
        self, trial: TrialConfig, clip: Any, checkpoint: "Checkpoint | None"
    ) -> Iterator[EpochMetrics]:
        """Start or resume a trial, and return the iterator of its epochs.

        Args:
            trial: Config of the trial.
            clip: The loaded backbone.
            checkpoint: Checkpoint to resume from. None starts the trial from its beginning.

        Raises:
            RuntimeError: The features were extracted with other weights than those of `clip`.
        """
        self._has_training = getattr(trial.finetuner, "epochs", 0) > 0
        self._tokens_at_start = int(getattr(clip, "n_processed_tokens", 0))
        self._peak_memory = PeakMemory(self.device)
        features, *target_sets = (self.features[key] for key in messages.list_feature_keys(trial))
        targets = dict(zip(trial.targets, target_sets, strict=True))
        expected = getattr(features, "backbone_fingerprint", None)
        if expected is not None and expected != clip.fingerprint:
            raise RuntimeError(
                f"backbone {trial.backbone} has other weights on this node than those that were "
                "used to extract the features. Install the same weights on every node"
            )
        self._clip = clip
        if checkpoint is not None:
            self._seconds += float(checkpoint.notes["seconds"])
            self._tokens_at_start -= int(checkpoint.notes["text_tokens"])
        return iter(self.run_trial(trial, self._seeds, features, clip, targets, checkpoint))

    def _count_text_tokens(self) -> int:
        """Return the number of tokens that the trial has passed through the text encoder.

        Tokens of the run that wrote the checkpoint are included.
        """
        return int(getattr(self._clip, "n_processed_tokens", 0)) - self._tokens_at_start

    def _make_final_result(self) -> dict[str, Any]:
        """Return the content of FINAL, without the trial's time.

        Raises:
            RuntimeError: The method has not reported the test metrics or the objective.
        """
        test_metrics = self._test_metrics
        metrics = messages.make_final_numbers(
            test_metrics, self._selection_values, self._seeds, self._objective
        )
        metrics[Cost.PEAK_MEMORY] = self._peak_memory.mebibytes()
        metrics[Cost.TEXT_TOKENS] = self._count_text_tokens()
        failed = test_metrics.failed if test_metrics else {}
        active = [None if index in failed else seed for index, seed in enumerate(self._seeds)]
        correct_predictions = messages.make_correct_file(
            test_metrics.correct_predictions if test_metrics else (), active
        )
        # only ship.trial.journal.TrialRun has `trained`, which is set only if models are saved
        trained = getattr(self._epochs, "trained", None) or {}
        files = {CORRECT_FILE: correct_predictions} if correct_predictions else {}
        files |= {f"{TRAINED}/{name}": content for name, content in trained.items()}
        return {
            "metrics": metrics,
            "files": files,
            "device": get_device_label(self.device),
            messages.FAILED_SEEDS: {self._seeds[index]: reason for index, reason in failed.items()},
        }


class SharedFeatures(Mapping[messages.FeatureKey, Any]):
    """Feature sets in Ray's object store, which the workers of a node share without copying.

    A feature set is copied to a node when a trial on that node first reads it.
    """

    def __init__(self, references: Mapping[messages.FeatureKey, Any]) -> None:
        """Create the mapping.

        Args:
            references: Ray's reference to each feature set.
        """
        self._references = references

    def __getitem__(self, key: messages.FeatureKey) -> Any:
        """Return a feature set, whose arrays are read-only."""
        return ray.get(self._references[key])

    def __iter__(self) -> Iterator[messages.FeatureKey]:
        """Iterate over the keys without fetching features."""
        return iter(self._references)

    def __len__(self) -> int:
        """Return the number of feature sets."""
        return len(self._references)


class ShipTrainable(tune.Trainable):
    """Adapter of Worker to Ray Tune. Each study creates a subclass that sets the attributes.

    If a worker process dies, harness.tuning.retries decides whether its trial is retried.

    Attributes:
        shared: References to feature sets in Ray's object store.
        arguments: Arguments of Worker other than `features`.
    """

    shared: Mapping[messages.FeatureKey, Any]
    arguments: Mapping[str, Any]

    def setup(self, config: dict[str, Any]) -> None:
        """Prepare the process, and begin its first trial.

        Ray's processes block SIGTERM (see harness.ray.session.block_sigterm). It is unblocked here,
        because processes started by a plugin would inherit the block, and multiprocessing could not
        end them by SIGTERM.
        """
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._worker = Worker(SharedFeatures(self.shared), **self.arguments)
        self._worker.begin(config)

    def step(self) -> dict[str, Any]:
        """Call Worker.step."""
        return self._worker.step()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same process, and return True.

        If the last trial has made the GPU unusable, the process exits instead, and Tune runs the
        new trial in another process.
        """
        if self._worker.gpu_is_broken:
            os._exit(1)
        self._worker.begin(new_config)
        return True
