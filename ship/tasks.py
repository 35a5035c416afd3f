"""What a trial trains on: features as padded tensors with a replica dimension.

Which picture and class is in which part, ship.protocols says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ship.clip import FrozenCLIP, class_features
from ship.replicas import ReplicaRng, gather_rows, random_views, sent
from ship.subsets import FeatureSet, Ids, few_shot_indices
from ship.templates import written
from ship.trial_config import TrialConfig

# CoOp keeps min(shots, 4) validation pictures a class (github.com/KaiyangZhou/CoOp, datasets/).
FEW_VALIDATION = 4


@dataclass(frozen=True)
class Pictures:
    """Pictures of labels within a task's universe, (n,): features (n, [view,] feature)."""

    features: Float[Tensor, "n *view feature"]
    labels: Int[Tensor, " n"]


@dataclass(frozen=True)
class Task:
    """A universe of classes, some seen (with pictures) and the others unseen (names only).

    Rows of replicas are padded to the longest; `counts` says how many are real. Which classes are
    seen may differ between replicas (pseudo-new classes are drawn by seed), how many may not.

    class_names: the universe, (n_cls,).
    text_features: zero-shot classifier from the dataset's templates, (n_cls, feature).
    seen: (replica, n_cls).
    features: few-shot pictures of seen classes, in all views, (replica, n, 1 + views, feature).
    labels: (replica, n).
    counts: real rows of features, per replica.
    n_nominal: pictures an epoch is made of; the same for all seeds of a setting.
    shots: pictures of a seen class, the rounded mean: fewer than the setting where some lack them.
    logit_scale: CLIP's factor on cosines.
    unseen: gives each replica's pictures of unseen classes in all views, ordered by class; for the
        real-picture ceiling alone, nothing else may read them.
    held_out: gives each replica's validation pictures of the seen classes; for early stopping,
        never to train on.
    augment: synthetic features are of the seen classes, beside their pictures (few_shot).
    generator_ids: each class as the generator's own task numbers it; None: the same numbers.

    Few methods call unseen and held_out: what none asks for takes no memory on the device.
    """

    class_names: tuple[str, ...]
    text_features: Float[Tensor, "n_cls feature"]
    seen: Bool[Tensor, "replica n_cls"]
    features: Float[Tensor, "replica n view feature"]
    labels: Int[Tensor, "replica n"]
    counts: tuple[int, ...]
    n_nominal: int
    shots: int
    logit_scale: float
    unseen: Callable[[], Sequence[Pictures]]
    held_out: Callable[[], Sequence[Pictures]]
    augment: bool = False
    generator_ids: Int[Tensor, " n_cls"] | None = None

    @property
    def n_replicas(self) -> int:
        """Seeds that are trained side by side."""
        return len(self.seen)

    @property
    def synthesized_ids(self) -> Int[Tensor, "replica n_made"]:
        """Classes to synthesize, ascending: the unseen ones; under `augment` all of them."""
        ids: Tensor = (~self.seen | self.augment).nonzero()[:, 1]
        return ids.reshape(self.n_replicas, -1)

    def for_generator(self, labels: Int[Tensor, "replica n"]) -> Int[Tensor, "replica n"]:
        """Classes as the generator's own task numbers them."""
        return labels if self.generator_ids is None else self.generator_ids[labels]

    def batch(
        self, rows: Int[Tensor, "replica n"], views: ReplicaRng
    ) -> tuple[Float[Tensor, "replica n feature"], Int[Tensor, "replica n"]]:
        """Features (a random view of each picture) and labels of the given rows."""
        rows = sent(rows, self.features.device)
        return random_views(self.features, rows, views), gather_rows(self.labels, rows)


def no_pictures(text_features: Float[Tensor, "n_cls feature"], n_replicas: int) -> dict[str, Any]:
    """Features, labels and counts of a task that what was kept is loaded into, without pictures.

    Two made-up ones of the first class stand for all: two, and different ones, as a scale or a
    covariance cannot be fitted to less.
    """
    pictures = torch.eye(2, text_features.shape[1]).to(text_features)
    return {
        "features": pictures[None, :, None].expand(n_replicas, -1, 1, -1),
        "labels": torch.zeros(n_replicas, 2, dtype=torch.long, device=text_features.device),
        "counts": (2,) * n_replicas,
    }


@dataclass(frozen=True)
class FixedRows:
    """Synthetic features that are drawn once, and the pictures behind them.

    features: unit norm; a synthetic one is repeated as each of its views, (n, 1 + views, feature).
    labels: places among the task's classes, (n,).
    weights: of each one's loss: `synthetic.weight`, of a picture 1, (n,).
    """

    features: Float[Tensor, "n view feature"]
    labels: Int[Tensor, " n"]
    weights: Float[Tensor, " n"]


@dataclass(frozen=True)
class SeedTask:
    """What one seed may look at while it trains: its own part of a Task.

    Tensors are to be read, never written to.

    class_names: the universe, (n_cls,).
    text_features: zero-shot classifier from the dataset's templates, (n_cls, feature).
    seen: which classes have pictures, (n_cls,).
    features: few-shot pictures of seen classes; view 0 is the picture as test pictures are seen,
        (n, 1 + views, feature).
    labels: places among the classes, (n,).
    shots: pictures of a seen class, the rounded mean: fewer than the setting where some lack them.
    logit_scale: CLIP's factor on cosines.
    synthetic: whether there are synthetic features of the classes that have no pictures.
    fixed: what a fine-tuner trains on whose `feed` is "fixed" or "own"; None: its feed is "stream".
    """

    class_names: tuple[str, ...]
    text_features: Float[Tensor, "n_cls feature"]
    seen: Bool[Tensor, " n_cls"]
    features: Float[Tensor, "n view feature"]
    labels: Int[Tensor, " n"]
    shots: int
    logit_scale: float
    synthetic: bool = False
    fixed: FixedRows | None = None

    @property
    def fixed_rows(self) -> FixedRows:
        """What a fine-tuner trains on whose `feed` is "fixed" or "own".

        Raises:
            ValueError: it is built for one whose feed is "stream".
        """
        if self.fixed is None:
            raise ValueError('a fine-tuner whose feed is "stream" has no rows when it is built')
        return self.fixed

    @classmethod
    def of(
        cls, task: Task, replica: int, *, synthetic: bool = False, fixed: FixedRows | None = None
    ) -> "SeedTask":
        """One replica's part of a task."""
        n = task.counts[replica]
        return cls(
            class_names=task.class_names,
            text_features=task.text_features,
            seen=task.seen[replica],
            features=task.features[replica, :n],
            labels=task.labels[replica, :n],
            shots=task.shots,
            logit_scale=task.logit_scale,
            synthetic=synthetic,
            fixed=fixed,
        )


@dataclass(frozen=True)
class TaskMaker:
    """Makes few-shot tasks of a dataset, as tensors on the backbone's device.

    seen: classes that training may show pictures of; they decide how long an epoch is. Each must
        have training pictures.
    """

    config: TrialConfig
    seeds: Sequence[int]
    features: FeatureSet
    clip: FrozenCLIP
    dtype: torch.dtype
    seen: Ids

    def encode(self, sentences: Sequence[Sequence[str]]) -> Float[Tensor, "n_cls feature"]:
        """Zero-shot text features.

        Args:
            sentences: of each class, whole prompts.
        """
        return class_features(self.clip, sentences).to(self.dtype)

    def pictures(self, features: np.ndarray, labels: np.ndarray) -> Pictures:
        """Copies on the device (the arrays may be read-only views of shared memory).

        Args:
            features: (n, [view,] feature).
            labels: (n,) whole numbers.
        """
        device = self.clip.device
        return Pictures(
            torch.tensor(features, dtype=self.dtype, device=device),
            torch.tensor(labels, device=device),
        )

    def validation(self, classes: Ids, *, few: bool = False) -> Pictures:
        """Validation pictures of some classes.

        Args:
            classes: labels.
            few: only a few of each class. The draw is the same for every seed, which would
                otherwise not be compared on the same pictures.
        """
        labels = self.features.val_labels
        most = min(self.config.shots or FEW_VALIDATION, FEW_VALIDATION) if few else len(labels)
        rows = few_shot_indices(labels, most, 0, classes)
        return self.pictures(self.features.val[rows], labels[rows])

    def task(
        self,
        n_classes: int,
        seen: Sequence[Ids],
        others: Sequence[tuple[str, Sequence[str]]] = (),
        *,
        augment: bool = False,
    ) -> Task:
        """The task over the dataset's first n classes with each replica's own seen classes.

        Args:
            n_classes: how many of the dataset's classes.
            seen: of each replica.
            others: (class name, sentences for the zero-shot classifier) of further classes that
                no picture shows, numbered behind the dataset's own.
            augment: whether synthetic features are of the seen classes.
        """
        features, labels = self.features, self.features.train_labels
        counts = np.bincount(labels)
        shots = self.config.shots or int(np.max(counts))
        # an epoch is as long for one seed's classes as for another's
        mean_count = float(np.minimum(counts[self.seen], shots).mean())

        def drawn(seed: int, classes: Ids) -> Pictures:
            rows = few_shot_indices(labels, shots, seed, classes)
            rows = rows[np.argsort(labels[rows], kind="stable")]
            return self.pictures(features.train[rows], labels[rows])

        shown = list(map(drawn, self.seeds, seen))
        n_cls = n_classes + len(others)
        is_seen = np.stack([np.isin(np.arange(n_cls), classes) for classes in seen])
        unseen = [np.setdiff1d(np.arange(n_classes), classes) for classes in seen]
        names = features.class_names[:n_classes]
        templates = self.config.templates_for(features.dataset, features.template)
        return Task(
            class_names=(*names, *(name for name, _ in others)),
            text_features=self.encode([*written(templates, names), *(own for _, own in others)]),
            seen=torch.tensor(is_seen, device=self.clip.device),
            features=pad_sequence([own.features for own in shown], batch_first=True),
            labels=pad_sequence([own.labels for own in shown], batch_first=True),
            counts=tuple(len(own.labels) for own in shown),
            n_nominal=max(1, round(len(seen[0]) * mean_count)),
            shots=max(1, round(mean_count)),
            logit_scale=self.clip.logit_scale,
            unseen=lambda: list(map(drawn, self.seeds, unseen)),
            held_out=lambda: list(map(self.validation, seen)),
            augment=augment,
        )
