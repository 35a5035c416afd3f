"""Few-shot tasks of one dataset, as tensors on the backbone's device."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.datasets import sentence
from ship.features import FeatureSet
from ship.subsets import few_shot_indices
from ship.tasks import Pictures, Task, pad_rows


class TaskBuilder:
    """Builds tasks over the first classes of a dataset, and over further names without pictures.

    Args:
        shots: training pictures a seen class, at most; None: all there are.
        seeds: of each replica.
        features: of the dataset.
        clip: gives the classes' text features.
        dtype: of all features.
        seen: (m,) labels of classes that training may show pictures of; they decide how long an
            epoch is. Each must have training pictures.
    """

    def __init__(
        self,
        shots: int | None,
        seeds: Sequence[int],
        features: FeatureSet,
        clip: FrozenCLIP,
        dtype: torch.dtype,
        *,
        seen: np.ndarray,
    ) -> None:
        self._seeds = seeds
        self._features = features
        self._clip = clip
        self._dtype = dtype
        self._counts = np.bincount(features.train_labels, minlength=len(features.class_names))
        self._shots = shots or int(np.max(self._counts))
        # an epoch is as long for one seed's classes as for another's
        self._mean_count = float(np.minimum(self._counts[seen], self._shots).mean())
        self.texts = [sentence(features.template, name) for name in features.class_names]

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Zero-shot text features, (n, feature).

        Args:
            sentences: n whole prompts.
        """
        return self._clip.encode_texts(sentences).to(self._dtype)

    def pictures(self, features: np.ndarray, labels: np.ndarray) -> Pictures:
        """Copies on the device (the arrays may be read-only views of shared memory).

        Args:
            features: (n, [view,] feature).
            labels: (n,) whole numbers.
        """
        device = self._clip.device
        return Pictures(
            torch.tensor(features, dtype=self._dtype, device=device),
            torch.tensor(labels, device=device),
        )

    def validation(self, classes: np.ndarray, most: int | None = None) -> Pictures:
        """Validation pictures of some classes.

        Args:
            classes: (m,) labels of the dataset.
            most: of a class; None: all there are. The draw is the same for every seed, which would
                otherwise not be compared on the same pictures.
        """
        rows = np.flatnonzero(np.isin(self._features.val_labels, classes))
        if most is not None and len(rows):
            own = np.unique(self._features.val_labels[rows])
            rows = np.sort(few_shot_indices(self._features.val_labels, most, 0, own))
        return self.pictures(self._features.val[rows], self._features.val_labels[rows])

    def test(self) -> Pictures:
        """All n test pictures, features (n, feature)."""
        return self.pictures(self._features.test, self._features.test_labels)

    def task(
        self,
        n_classes: int,
        seen: Sequence[np.ndarray],
        others: Sequence[tuple[str, str]] = (),
    ) -> Task:
        """The task over the dataset's first n classes with each replica's own seen classes.

        Args:
            n_classes: how many of the dataset's classes.
            seen: (m,) labels of each replica's seen classes.
            others: (class name, sentence for the zero-shot classifier) of further classes that
                no picture shows, numbered behind the dataset's own.
        """
        n_cls = n_classes + len(others)
        is_seen = np.zeros((len(self._seeds), n_cls), dtype=bool)
        for row, classes in zip(is_seen, seen, strict=True):
            row[classes] = True
        unseen = [np.flatnonzero(~row[:n_classes]) for row in is_seen]
        rows = [self._draw(seed, c) for seed, c in zip(self._seeds, seen, strict=True)]
        hidden = [self._draw(seed, c) for seed, c in zip(self._seeds, unseen, strict=True)]
        texts = [*self.texts[:n_classes], *(sentence for _, sentence in others)]
        names = (*self._features.class_names[:n_classes], *(name for name, _ in others))
        return Task(
            class_names=names,
            text_features=self.encode(texts),
            seen=torch.tensor(is_seen, device=self._clip.device),
            features=self._rows(rows),
            labels=self._labels(rows),
            counts=tuple(map(len, rows)),
            n_nominal=max(1, round(len(seen[0]) * self._mean_count)),
            shots=max(1, round(self._mean_count)),
            logit_scale=self._clip.logit_scale,
            unseen_features=self._rows(hidden),
            unseen_first=self._starts(hidden, n_cls),
            unseen_count=self._per_class(hidden, n_cls),
            **self._held_out(seen),
        )

    def _held_out(self, seen: Sequence[np.ndarray]) -> dict[str, Any]:
        """Validation pictures of each replica's seen classes."""
        labels = self._features.val_labels
        rows = [np.flatnonzero(np.isin(labels, classes)) for classes in seen]
        features = [torch.tensor(self._features.val[r], dtype=self._dtype) for r in rows]
        device = self._clip.device
        return {
            "held_out": pad_rows(features).to(device),
            "held_out_labels": pad_rows([torch.tensor(labels[r]) for r in rows]).to(device),
            "held_out_counts": tuple(map(len, rows)),
        }

    def _draw(self, seed: int, classes: np.ndarray) -> np.ndarray:
        """Rows of the training split, ordered by class; a class may have none."""
        labels = self._features.train_labels
        shown = classes[self._counts[classes] > 0]
        drawn = few_shot_indices(labels, self._shots, seed, shown)
        return drawn[np.argsort(labels[drawn], kind="stable")]

    def _rows(self, rows: Sequence[np.ndarray]) -> Tensor:
        drawn = [torch.tensor(self._features.train[r], dtype=self._dtype) for r in rows]
        return pad_rows(drawn).to(self._clip.device)

    def _labels(self, rows: Sequence[np.ndarray]) -> Tensor:
        drawn = [torch.tensor(self._features.train_labels[r]) for r in rows]
        return pad_rows(drawn).to(self._clip.device)

    def _per_class(self, rows: Sequence[np.ndarray], n_cls: int) -> Tensor:
        labels = self._features.train_labels
        counts = [np.bincount(labels[r], minlength=n_cls) for r in rows]
        return torch.tensor(np.stack(counts), device=self._clip.device)

    def _starts(self, rows: Sequence[np.ndarray], n_cls: int) -> Tensor:
        counts = self._per_class(rows, n_cls)
        return counts.cumsum(1) - counts
