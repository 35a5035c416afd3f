"""Few-shot tasks of one dataset, as tensors on the backbone's device."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.datasets import sentence
from ship.protocols.base import Exam
from ship.subsets import FeatureSet, few_shot_indices, pseudo_new_classes
from ship.tasks import Pictures, Task, pad_rows
from ship.trial_config import TrialConfig

# CoOp keeps min(shots, 4) validation pictures a class (github.com/KaiyangZhou/CoOp, datasets/).
FEW_VALIDATION = 4


class TaskBuilder:
    """Builds tasks over the first classes of a dataset, and over further names without pictures.

    Args:
        config: the setting; what replicas do not share is not looked at.
        seeds: of each replica.
        features: of config.dataset.
        clip: gives the classes' text features.
        dtype: of all features.
        seen: (m,) labels of classes that training may show pictures of; they decide how long an
            epoch is. Each must have training pictures.
    """

    def __init__(
        self,
        config: TrialConfig,
        seeds: Sequence[int],
        features: FeatureSet,
        clip: FrozenCLIP,
        dtype: torch.dtype,
        *,
        seen: np.ndarray,
    ) -> None:
        self._config = config
        self._seeds = seeds
        self._features = features
        self._clip = clip
        self._dtype = dtype
        self._seen = seen
        self._counts = np.bincount(features.train_labels, minlength=len(features.class_names))
        self._shots = config.shots or int(np.max(self._counts))
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

    def validation(self) -> Pictures:
        """Validation pictures of the classes that training may show, as selection looks at them.

        Of few_val a few of each class. The draw is the same for every seed, which would otherwise
        not be compared on the same pictures.
        """
        labels = self._features.val_labels
        rows = np.flatnonzero(np.isin(labels, self._seen))
        if self._config.selection == "few_val" and len(rows):
            most = min(self._config.shots or FEW_VALIDATION, FEW_VALIDATION)
            rows = np.sort(few_shot_indices(labels, most, 0, np.unique(labels[rows])))
        return self.pictures(self._features.val[rows], labels[rows])

    def pseudo_new(self) -> Exam:
        """Selection's exam of pseudo-new classes: each seed hides some of those it may show.

        It trains on the others, and looks at validation pictures of both.
        """
        fraction = self._config.pseudo_new_fraction
        shown = [pseudo_new_classes(self._seen, fraction, seed)[0] for seed in self._seeds]
        return Exam(self.task(len(self._seen), shown), self.validation())

    def test(self) -> Pictures:
        """All n test pictures, features (n, feature)."""
        return self.pictures(self._features.test, self._features.test_labels)

    def task(
        self,
        n_classes: int,
        seen: Sequence[np.ndarray],
        others: Sequence[tuple[str, str]] = (),
        *,
        augment: bool = False,
    ) -> Task:
        """The task over the dataset's first n classes with each replica's own seen classes.

        Args:
            n_classes: how many of the dataset's classes.
            seen: (m,) labels of each replica's seen classes.
            others: (class name, sentence for the zero-shot classifier) of further classes that
                no picture shows, numbered behind the dataset's own.
            augment: whether synthetic features are of the seen classes.
        """
        own, n_cls = self._features, n_classes + len(others)
        is_seen = np.zeros((len(self._seeds), n_cls), dtype=bool)
        for row, classes in zip(is_seen, seen, strict=True):
            row[classes] = True
        unseen = [np.flatnonzero(~row[:n_classes]) for row in is_seen]
        rows = [self._draw(seed, c) for seed, c in zip(self._seeds, seen, strict=True)]
        hidden = [self._draw(seed, c) for seed, c in zip(self._seeds, unseen, strict=True)]
        held_out = [np.flatnonzero(np.isin(own.val_labels, classes)) for classes in seen]
        count = [np.bincount(own.train_labels[r], minlength=n_cls) for r in hidden]
        texts = [*self.texts[:n_classes], *(sentence for _, sentence in others)]
        # read by few methods, and so made when they are
        when_read: dict[str, Any] = {
            "unseen_features": lambda: self._padded(own.train, hidden, self._dtype),
            "held_out": lambda: self._padded(own.val, held_out, self._dtype),
        }
        return Task(
            class_names=(*own.class_names[:n_classes], *(name for name, _ in others)),
            text_features=self.encode(texts),
            seen=torch.tensor(is_seen, device=self._clip.device),
            features=self._padded(own.train, rows, self._dtype),
            labels=self._padded(own.train_labels, rows),
            counts=tuple(map(len, rows)),
            n_nominal=max(1, round(len(seen[0]) * self._mean_count)),
            shots=max(1, round(self._mean_count)),
            logit_scale=self._clip.logit_scale,
            unseen_first=self._stacked([n.cumsum() - n for n in count]),
            unseen_count=self._stacked(count),
            held_out_labels=self._padded(own.val_labels, held_out),
            held_out_counts=tuple(map(len, held_out)),
            augment=augment,
            **when_read,
        )

    def _draw(self, seed: int, classes: np.ndarray) -> np.ndarray:
        """Rows of the training split, ordered by class; a class may have none."""
        labels = self._features.train_labels
        shown = classes[self._counts[classes] > 0]
        drawn = few_shot_indices(labels, self._shots, seed, shown)
        return drawn[np.argsort(labels[drawn], kind="stable")]

    def _padded(
        self, table: np.ndarray, rows: Sequence[np.ndarray], dtype: torch.dtype | None = None
    ) -> Tensor:
        """Each replica's rows of a table, (replica, most, ...) on the device."""
        return pad_rows([torch.tensor(table[r], dtype=dtype) for r in rows]).to(self._clip.device)

    def _stacked(self, rows: Sequence[np.ndarray]) -> Tensor:
        return torch.tensor(np.stack(rows), device=self._clip.device)
