"""What methods are checked on: a backbone in double precision, and tasks of some seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.datasets import sentence
from ship.protocols import build_protocol
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.testing.finding import require
from ship.training import ReplicaRng
from ship.trial_config import TrialConfig

SEEDS: Final = (7, 2, 0)
CLASSES: Final = (
    "cat",
    "fire truck",
    "balloon",
    "dog",
    "sea lion",
    "ice",
    "hot air balloon",
    "bee",
)
_FEW: Final = {0: 3, 1: 6, 2: 2, 3: 5}
_TOLERANCE: Final = 1e-8


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
        uneven = _uneven(self.features)
        config = TrialConfig(shots=6)
        protocol = build_protocol(config, seeds, uneven, {}, self.clip, torch.float64)
        if protocol.selection is None:
            raise ValueError("the selection pseudo_new has a task")
        return protocol.selection.task

    @cached_property
    def pictures(self) -> Tensor:
        """Test pictures, (n, feature)."""
        found = torch.tensor(self.features.test, dtype=torch.float64)
        return found.to(self.clip.device)

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
    texts = [sentence(template, name) for name in CLASSES]
    centres = clip.encode_texts(texts).cpu().numpy()

    def split(n: int, *views: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(len(CLASSES)), n)
        x = centres[labels].reshape(len(labels), *[1] * len(views), -1)
        x = x + 0.15 * rng.standard_normal((len(labels), *views, centres.shape[1]))
        x = (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
        x.flags.writeable = False
        return x, labels

    train, train_labels = split(6, 3)
    val, val_labels = split(4)
    test, test_labels = split(5)
    return FeatureSet(
        class_names=CLASSES,
        template=template,
        dataset="made up",
        dataset_fingerprint="",
        backbone_fingerprint=clip.fingerprint,
        train=train,
        train_labels=train_labels,
        val=val,
        val_labels=val_labels,
        test=test,
        test_labels=test_labels,
    )


def _uneven(features: FeatureSet) -> FeatureSet:
    """Features of which some classes have fewer pictures, so that seeds differ in their rows."""
    labels = features.train_labels
    train = np.concatenate(
        [np.flatnonzero(labels == c)[: _FEW.get(c, 6)] for c in range(len(features.class_names))]
    )
    held = features.val_labels
    val = np.flatnonzero((held != 1) | (np.arange(len(held)) % 2 > 0))
    return replace(
        features,
        train=features.train[train],
        train_labels=labels[train],
        val=features.val[val],
        val_labels=held[val],
    )


def without_pictures(task: Task) -> Task:
    """The task as what was kept is loaded into: two made-up pictures of a class stand for all."""
    n, like = task.n_replicas, task.features
    made = torch.eye(2, like.shape[-1], dtype=like.dtype, device=like.device)
    return replace(
        task,
        features=made[None, :, None].expand(n, -1, 1, -1),
        labels=task.labels.new_zeros(n, 2),
        counts=(2,) * n,
    )


def require_equal(ours: Tensor, theirs: Tensor, what: str, tolerance: float = _TOLERANCE) -> None:
    """Raise BrokenError where tensors differ; tolerance 0: in a single bit."""
    require(ours.shape == theirs.shape, f"{what}: shape {[*ours.shape]}, not {[*theirs.shape]}")
    if tolerance == 0:
        same = torch.equal(ours, theirs)
    else:
        same = torch.allclose(ours.double(), theirs.double(), rtol=0, atol=tolerance)
    if not same:
        apart = float((ours.double() - theirs.double()).abs().max())
        require(False, f"{what}: up to {apart:.3g} apart")


def require_members(made: object, members: Sequence[str]) -> None:
    """Raise BrokenError where an object lacks one of the contract's members."""
    lacking = [name for name in members if not hasattr(made, name)]
    require(not lacking, f"it has no {', '.join(lacking)}")


def require_epoch_of_seed(
    together: Mapping[str, Tensor], alone: Mapping[str, Tensor], replica: int, seed: int
) -> None:
    """Raise BrokenError unless a seed's metrics of an epoch are those that it has alone."""
    require(together.keys() == alone.keys(), "a seed alone reports other metrics")
    for name, value in alone.items():
        require_equal(together[name][replica], value[0], f"{name} of seed {seed}")


def require_numbers(metrics: dict[str, Tensor], n_replicas: int) -> None:
    """Raise BrokenError unless the metrics of an epoch are one finite number a replica."""
    for name, value in metrics.items():
        require(
            isinstance(value, Tensor) and value.shape == (n_replicas,),
            f"{name} of an epoch must be a tensor with one number a replica",
        )
        require(bool(value.isfinite().all()), f"{name} of an epoch is not finite")
        require(not value.requires_grad, f"{name} of an epoch has a gradient; detach it")


def frozen(task: Task, clip: FrozenCLIP) -> dict[str, Tensor]:
    """Copies of all that nobody may write to."""
    weights = {f"CLIP's {name}": value for name, value in clip._model.state_dict().items()}
    tensors = {f"task.{n}": value for n, value in vars(task).items() if isinstance(value, Tensor)}
    return {name: value.clone() for name, value in {**weights, **tensors}.items()}


def require_untouched(before: dict[str, Tensor], task: Task, clip: FrozenCLIP) -> None:
    """Raise BrokenError where something frozen was written to, or has a gradient."""
    after = frozen(task, clip)
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    require(not changed, f"{', '.join(changed[:5])} was written to")
    graded = [name for name, p in clip._model.named_parameters() if p.grad is not None]
    require(not graded, f"CLIP's {', '.join(graded[:5])} got a gradient")
