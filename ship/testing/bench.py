"""Run checks on cases, and define the case of a method: its settings, a backbone, a small task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from ship.clip import FrozenCLIP, encode_classes
from ship.configs.generators import GaussianTextConfig
from ship.finetuners import build_finetuner
from ship.generators import Synthesizer, build_generator
from ship.generators.batched import BatchedGenerator
from ship.generators.gaussians import GaussianText
from ship.protocols import build_protocol
from ship.registry import PROPAGATED_EXCEPTIONS, format_error
from ship.seeds import SeedRng
from ship.settings import GeneratorSettings
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.templates import fill_templates
from ship.trial_config import SyntheticConfig, TrialConfig

SEEDS: Final = (7, 2, 0)
CLASSES: Final = "cat", "fire truck", "balloon", "dog", "sea lion", "ice", "hot air balloon", "bee"
TOLERANCE: Final = 1e-8
# Number of training images to keep, by label. Other classes keep 6.
_FEWER_IMAGES: Final = {0: 3, 1: 6, 2: 2, 3: 5}

Case = TypeVar("Case")


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        requirement: Requirement that was checked, as a sentence.
        fault: Reason why the requirement is not met. "" if it is met.

    Example:
        >>> print(CheckResult("samples have unit norm", fault="norms differ by up to 0.3"))
        FAILED  samples have unit norm: norms differ by up to 0.3
    """

    requirement: str
    fault: str

    @property
    def passed(self) -> bool:
        """Whether the requirement is met."""
        return not self.fault

    def __str__(self) -> str:
        if self.passed:
            return f"passed  {self.requirement}"
        return f"FAILED  {self.requirement}: {self.fault}"


class CheckError(Exception):
    """A requirement is not met. The message is the reason."""


def require(is_met: bool, fault: str) -> None:
    """Raise CheckError with the message `fault` unless a requirement is met."""
    if not is_met:
        raise CheckError(fault)


def require_shape(name: str, value: Tensor, shape: Sequence[int]) -> None:
    """Raise CheckError unless a tensor has the required shape.

    Args:
        name: Name of the tensor in the message.
        value: The tensor.
        shape: The required shape.
    """
    actual = list(value.shape)
    require(actual == list(shape), f"{name} must have shape {list(shape)}, got {actual}")


def require_equal(
    actual: Tensor, expected: Tensor, name: str, tolerance: float = TOLERANCE
) -> None:
    """Raise CheckError unless two tensors are equal up to a tolerance.

    Args:
        actual: Tensor of the method.
        expected: Tensor to compare with.
        name: Name of the tensors in the message, in the plural.
        tolerance: Maximum absolute difference. 0 requires exact equality.
    """
    require_shape(name, actual, expected.shape)
    differences = (actual.double() - expected.double()).abs()
    # NaN differs from everything, also from NaN
    if tolerance == 0:
        is_equal = torch.equal(actual, expected)
    else:
        is_equal = bool((differences <= tolerance).all())
    require(is_equal, f"{name} differ by up to {float(differences.max()):.3g}")


def run_checks(
    checks: Mapping[str, Callable[[Case], None]], cases: Mapping[str, Case]
) -> Iterator[CheckResult]:
    """Yield the result of each check on each case.

    All requirements depend on the first one. If a case does not meet it, no further checks are run,
    neither on this case nor on those after it.

    Args:
        checks: Check functions by requirement. All exceptions except EXITS are reported as faults.
        cases: Cases by the text to put before each of their requirements, e.g. "with synthetic
            features, ". "" adds nothing.
    """
    first, *_ = checks
    for prefix, case in cases.items():
        for requirement, check in checks.items():
            fault = ""
            try:
                check(case)
            except CheckError as error:
                fault = str(error)
            except PROPAGATED_EXCEPTIONS:
                raise
            except BaseException as error:  # a plugin may raise anything
                fault = format_error(error)
            yield CheckResult(prefix + requirement, fault)
            if fault and requirement == first:
                return


@dataclass(frozen=True)
class Bench:
    """A backbone and a dataset to check methods on.

    Attributes:
        clip: Backbone in double precision, so that rounding errors are much smaller than real
            differences.
        features: Read-only features of a dataset with at least 8 classes, each with at least 6
            training and 4 validation images.
        seeds: Seeds to train together.
    """

    clip: FrozenCLIP
    features: FeatureSet
    seeds: tuple[int, ...] = SEEDS

    def task(self, seeds: Sequence[int]) -> Task:
        """Build a task whose seeds differ in their classes and in their numbers of images."""
        config, features = TrialConfig(shots=6), _drop_images(self.features)
        protocol: Any = build_protocol(config, seeds, features, {}, self.clip, torch.float64)
        task: Task = protocol.selection.task  # the default selection, "pseudo_new", has a task
        return task

    @cached_property
    def images(self) -> Tensor:
        """Features of the test images, (n, feature)."""
        return torch.tensor(self.features.test, dtype=torch.float64, device=self.clip.device)

    def noise(self, seeds: Sequence[int], purpose: str = "testing/noise") -> SeedRng:
        """Start random streams for the noise of samples, one per seed.

        Args:
            seeds: Seeds of the streams.
            purpose: Purpose that names the streams (see SeedRng).
        """
        return SeedRng(seeds, purpose, self.clip.device, torch.float64)


def make_packaged_bench() -> Bench:
    """Build a bench with the packaged backbone, and with noisy text features as image features."""
    pocket = FrozenCLIP.load("pocket")
    clip = FrozenCLIP("pocket", pocket._model.double(), pocket.tokenizer)
    return Bench(clip, make_up_features(clip))


def make_up_features(clip: FrozenCLIP) -> FeatureSet:
    """Build read-only features of a dataset, with noisy text features of classes as image features.

    Args:
        clip: Backbone that encodes the class names.
    """
    rng = np.random.default_rng(0)
    template = "a photo of a {}."
    centers = encode_classes(clip, fill_templates([template], CLASSES)).cpu().numpy()
    splits: dict[str, Any] = {}
    for split, n, views in (("train", 6, [3]), ("val", 4, []), ("test", 5, [])):
        labels = np.repeat(np.arange(len(CLASSES)), n)
        x = centers[labels].reshape(len(labels), *[1] * len(views), -1)
        x = x + 0.15 * rng.standard_normal((len(labels), *views, centers.shape[1]))
        x = (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
        x.flags.writeable = False
        splits |= {split: x, f"{split}_labels": labels}
    return FeatureSet(
        class_names=CLASSES,
        template=template,
        dataset="made up",
        dataset_fingerprint="",
        backbone_fingerprint=clip.fingerprint,
        **splits,
    )


def _drop_images(features: FeatureSet) -> FeatureSet:
    """Drop some images of some classes, so that seeds have different numbers of images."""
    labels, val_labels = features.train_labels, features.val_labels
    classes = range(len(features.class_names))
    train_rows = np.concatenate(
        [np.flatnonzero(labels == c)[: _FEWER_IMAGES.get(c, 6)] for c in classes]
    )
    # class 1 loses every other validation image
    val_rows = np.flatnonzero((val_labels != 1) | (np.arange(len(val_labels)) % 2 > 0))
    return replace(
        features,
        train=features.train[train_rows],
        train_labels=labels[train_rows],
        val=features.val[val_rows],
        val_labels=val_labels[val_rows],
    )


@dataclass(frozen=True)
class BenchRun:
    """A trained method with its metrics and outputs.

    Attributes:
        method: The method, trained under all seeds.
        epochs: Metrics of each epoch.
        outputs: Outputs after training, (seed, ...) each. A fine-tuner has one output per entry of
            its `inference_grid`: the logits of the test images. A generator has a single output:
            two samples of each unseen class.
    """

    method: Any
    epochs: list[dict[str, Tensor]]
    outputs: list[Tensor]


@dataclass(frozen=True)
class MethodCase:
    """A generator or a fine-tuner with its settings, on a bench.

    Attributes:
        config: Settings of the method. The method is a generator if they are GeneratorSettings.
        bench: Bench to check it on.
        synthetic: Whether a fine-tuner gets synthetic features.
    """

    config: Any
    bench: Bench
    synthetic: bool = False

    @cached_property
    def task(self) -> Task:
        """Task with all seeds of the bench."""
        return self.bench.task(self.bench.seeds)

    @cached_property
    def run(self) -> BenchRun:
        """The method, trained under all seeds. Checks share it and must not change it."""
        return self.train(self.task, self.bench.seeds)

    @property
    def output_name(self) -> str:
        """Name of the outputs in messages."""
        return "samples" if isinstance(self.config, GeneratorSettings) else "logits"

    def build(self, task: Task, seeds: Sequence[int]) -> Any:
        """Build the untrained method.

        Args:
            task: Task of the seeds.
            seeds: The seeds.
        """
        clip, synthesizer = self.bench.clip, None
        if isinstance(self.config, GeneratorSettings):
            return build_generator(self.config, task, clip, seeds)
        if self.synthetic:
            settings = GaussianTextConfig(scale=0.1)
            generator = BatchedGenerator(GaussianText, settings, task, clip, seeds)
            synthesizer = Synthesizer(SyntheticConfig(), generator.sample, task, seeds)
        return build_finetuner(self.config, task, synthesizer, clip, seeds)

    def train(self, task: Task, seeds: Sequence[int]) -> BenchRun:
        """Build and train the method, and compute its outputs.

        Args:
            task: Task of the seeds.
            seeds: The seeds.
        """
        method, epochs = self.build(task, seeds), []
        for _ in range(method.epochs):
            epochs.append(method.train_epoch())
            if getattr(method, "finished", False):
                break
        return BenchRun(method, epochs, self.outputs(method, task, seeds))

    def outputs(self, method: Any, task: Task, seeds: Sequence[int]) -> list[Tensor]:
        """Return the outputs of a method (see BenchRun), with the same noise in every call.

        Args:
            method: Method of all seeds.
            task: Task of the seeds.
            seeds: The seeds.
        """
        if isinstance(self.config, GeneratorSettings):
            return [method.sample(task.synthetic_ids.repeat(1, 2), self.bench.noise(seeds))]
        return [method.logits(self.bench.images, choice) for choice in method.inference_grid]

    def require_same(self, method: Any, description: str) -> None:
        """Raise CheckError unless a method has exactly the outputs of `run`.

        Args:
            method: Method of all seeds.
            description: Description of the method, which follows `output_name` in the message,
                e.g. "of a second run".
        """
        outputs = self.outputs(method, self.task, self.bench.seeds)
        for actual, expected in zip(outputs, self.run.outputs, strict=True):
            require_equal(actual, expected, f"{self.output_name} {description}", 0)
