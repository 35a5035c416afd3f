"""What a check looks at, a method on a backbone and tasks, and how it is told what it finds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from ship.clip import FrozenCLIP, class_features
from ship.configs.generators import GaussianTextConfig
from ship.finetuners import build_finetuner
from ship.generators import Synthesizer, build_generator
from ship.generators.fit import FusedGenerator
from ship.generators.gaussians import GaussianText
from ship.protocols import build_protocol
from ship.registry import EXITS, in_one_line
from ship.replicas import ReplicaRng
from ship.settings import GeneratorSettings
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.templates import written
from ship.trial_config import SyntheticConfig, TrialConfig

SEEDS: Final = (7, 2, 0)
CLASSES: Final = "cat", "fire truck", "balloon", "dog", "sea lion", "ice", "hot air balloon", "bee"
TOLERANCE: Final = 1e-8
_FEW: Final = {0: 3, 1: 6, 2: 2, 3: 5}

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Finding:
    """One clause of a contract.

    Attributes:
        promise: what must hold, in words.
        fault: how it fails; "": it holds.
    """

    promise: str
    fault: str

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return not self.fault

    def __str__(self) -> str:
        return f"holds  {self.promise}" if self.holds else f"FAILS  {self.promise}: {self.fault}"


class BrokenError(Exception):
    """A promise that is not kept; str() says how."""


def require(kept: bool, fault: str) -> None:
    """Raise BrokenError with the fault unless a promise is kept."""
    if not kept:
        raise BrokenError(fault)


def require_equal(ours: Tensor, theirs: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Raise BrokenError where tensors differ; tolerance 0: in a single bit."""
    require(ours.shape == theirs.shape, f"{what}: shape {[*ours.shape]}, not {[*theirs.shape]}")
    apart = (ours.double() - theirs.double()).abs()
    # NaN is as far from itself as from all else
    same = torch.equal(ours, theirs) if tolerance == 0 else bool((apart <= tolerance).all())
    require(same, f"{what}: up to {float(apart.max()):.3g} apart")


def findings(
    checks: Mapping[str, Callable[[Subject], None]], subjects: Mapping[str, Subject]
) -> Iterator[Finding]:
    """What each check finds in each subject, as it finds it.

    All promises need the first one: where that fails, its fault is told once, and nothing else is.

    Args:
        checks: by the promise; whatever else than BrokenError they raise is a fault, too.
        subjects: by the words that their promises begin with.
    """
    first, *_ = checks
    for beginning, subject in subjects.items():
        for promise, check in checks.items():
            fault = ""
            try:
                check(subject)
            except BrokenError as error:
                fault = str(error)
            except EXITS:
                raise
            except BaseException as error:  # of somebody else's code
                fault = in_one_line(error)
            yield Finding(beginning + promise, fault)
            if fault and promise == first:
                return


@dataclass(frozen=True)
class Bench:
    """A backbone and a dataset.

    clip: in double precision, so that what is equal but for rounding is told from what differs.
    features: of a dataset of at least 8 classes with 6 training and 4 validation pictures each,
        read-only.
    seeds: that are trained side by side.
    """

    clip: FrozenCLIP
    features: FeatureSet
    seeds: tuple[int, ...] = SEEDS

    def task(self, seeds: Sequence[int]) -> Task:
        """A task whose replicas differ in classes, and in numbers of pictures."""
        config, uneven = TrialConfig(shots=6), _uneven(self.features)
        protocol: Any = build_protocol(config, seeds, uneven, {}, self.clip, torch.float64)
        task: Task = protocol.selection.task  # which pseudo_new has
        return task

    @cached_property
    def pictures(self) -> Tensor:
        """Test pictures, (n, feature)."""
        return torch.tensor(self.features.test, dtype=torch.float64, device=self.clip.device)

    def noise(self, seeds: Sequence[int], purpose: str = "testing/noise") -> ReplicaRng:
        """A fresh stream of noise for samples."""
        return ReplicaRng(seeds, purpose, self.clip.device, torch.float64)


def packaged_bench() -> Bench:
    """The packaged backbone, with noisy text features that stand for pictures."""
    plain = FrozenCLIP.load("pocket")
    clip = FrozenCLIP("pocket", plain._model.double(), plain.tokenizer)
    return Bench(clip, made_up_features(clip))


def made_up_features(clip: FrozenCLIP) -> FeatureSet:
    """Noisy copies of class text features, as if they were pictures; read-only, as a cache is."""
    rng = np.random.default_rng(0)
    template = "a photo of a {}."
    centres = class_features(clip, written([template], CLASSES)).cpu().numpy()
    splits: dict[str, Any] = {}
    for split, n, views in (("train", 6, [3]), ("val", 4, []), ("test", 5, [])):
        labels = np.repeat(np.arange(len(CLASSES)), n)
        x = centres[labels].reshape(len(labels), *[1] * len(views), -1)
        x = x + 0.15 * rng.standard_normal((len(labels), *views, centres.shape[1]))
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


def _uneven(features: FeatureSet) -> FeatureSet:
    """Features of which some classes have fewer pictures, so that seeds differ in their rows."""
    labels, held = features.train_labels, features.val_labels
    classes = range(len(features.class_names))
    kept = {
        "train": np.concatenate([np.flatnonzero(labels == c)[: _FEW.get(c, 6)] for c in classes]),
        "val": np.flatnonzero((held != 1) | (np.arange(len(held)) % 2 > 0)),
    }
    both = [(name, kept[split]) for split in kept for name in (split, f"{split}_labels")]
    return replace(features, **{name: getattr(features, name)[rows] for name, rows in both})


@dataclass(frozen=True)
class Run:
    """A trained method, the metrics of each epoch, and what it then answers.

    answers: of a fine-tuner, logits of the test pictures under each choice; of a generator, two
        samples of each unseen class; (replica, ...) each.
    """

    made: Any
    epochs: list[dict[str, Tensor]]
    answers: list[Tensor]


@dataclass(frozen=True)
class MethodSubject:
    """A generator or a fine-tuner with its settings, on a bench.

    synthetic: whether a fine-tuner gets synthetic features.
    """

    config: Any
    bench: Bench
    synthetic: bool = False

    @cached_property
    def task(self) -> Task:
        """Of all seeds."""
        return self.bench.task(self.bench.seeds)

    @cached_property
    def run(self) -> Run:
        """One run of all seeds, for checks that only look at it."""
        return self.fresh(self.task, self.bench.seeds)

    @property
    def answer(self) -> str:
        """What it answers with, in words."""
        return "samples" if isinstance(self.config, GeneratorSettings) else "logits"

    def build(self, task: Task, seeds: Sequence[int]) -> Any:
        """One that is not trained."""
        clip, synthesizer = self.bench.clip, None
        if isinstance(self.config, GeneratorSettings):
            return build_generator(self.config, task, clip, seeds)
        if self.synthetic:
            settings = GaussianTextConfig(scale=0.1)
            generator = FusedGenerator(GaussianText, settings, task, clip, seeds)
            synthesizer = Synthesizer(SyntheticConfig(), generator.sample, task, seeds)
        return build_finetuner(self.config, task, synthesizer, clip, seeds)

    def fresh(self, task: Task, seeds: Sequence[int]) -> Run:
        """Build, train, ask."""
        made, epochs = self.build(task, seeds), []
        for _ in range(made.epochs):
            epochs.append(made.train_epoch())
            if getattr(made, "finished", False):
                break
        return Run(made, epochs, self.answers(made, task, seeds))

    def answers(self, made: Any, task: Task, seeds: Sequence[int]) -> list[Tensor]:
        """What it answers, to the same noise each time."""
        if isinstance(self.config, GeneratorSettings):
            return [made.sample(task.synthesized_ids.repeat(1, 2), self.bench.noise(seeds))]
        return [made.logits(self.bench.pictures, choice) for choice in made.choices]

    def require_same(self, made: Any, what: str) -> None:
        """Raise BrokenError unless all seeds answer as in the run, to the bit."""
        ours = self.answers(made, self.task, self.bench.seeds)
        for mine, theirs in zip(ours, self.run.answers, strict=True):
            require_equal(mine, theirs, f"{self.answer} {what}", 0)
