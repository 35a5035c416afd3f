"""Protocols: which classes and pictures a trial may train on, be selected on, and be tested on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ship.backbone import FrozenCLIP
from ship.features import FeatureSet
from ship.splits import base_new_classes, few_shot_indices, pseudo_new_classes
from ship.task import Pictures, Task, pad_rows
from ship.trial_config import TrialConfig


@dataclass(frozen=True)
class Protocol:
    """What a trial trains on and is measured on.

    selection: the task whose epochs selection chooses among, and the pictures it looks at.
    final: the task that the tested model is trained on; None where it is selection's own.
    test: the pictures behind the test metrics.
    """

    selection: tuple[Task, Pictures]
    final: Task | None
    test: Pictures


def base_to_new(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    dtype: torch.dtype = torch.float32,
) -> Protocol:
    """Base-to-new generalisation (CoCoOp, arXiv:2203.05557), with selection that leaks nothing.

    The first ceil(n/2) classes are base. selection "pseudo_new" hides a seeded fraction of the base
    classes, trains on the rest, and looks at validation pictures of both groups; the tested model
    is then retrained on all base classes. "base_val" looks at validation pictures of base classes.
    "test" looks at the test pictures themselves, as the reference code does.

    Raises:
        ValueError: too few classes, or a class without training pictures.
    """
    build = _TaskBuilder(config, seeds, features, clip, dtype)
    base, new = base_new_classes(len(features.class_names))
    everything = np.concatenate([base, new])
    final = build.task(everything, [base] * len(seeds))
    test = build.pictures(features.test, features.test_labels)
    of_base = features.val_labels < len(base)
    validation = build.pictures(features.val[of_base], features.val_labels[of_base])
    if config.selection == "pseudo_new":
        seen = [pseudo_new_classes(base, config.pseudo_new_fraction, seed)[0] for seed in seeds]
        return Protocol((build.task(base, seen), validation), final, test)
    return Protocol((final, test if config.selection == "test" else validation), None, test)


class _TaskBuilder:
    """Few-shot draws of one dataset, as tensors on the backbone's device."""

    def __init__(
        self,
        config: TrialConfig,
        seeds: Sequence[int],
        features: FeatureSet,
        clip: FrozenCLIP,
        dtype: torch.dtype,
    ) -> None:
        self._shots = config.shots
        self._seeds = seeds
        self._features = features
        self._clip = clip
        self._dtype = dtype
        per_class = np.bincount(features.train_labels, minlength=len(features.class_names))
        missing = [repr(features.class_names[c]) for c in np.flatnonzero(per_class == 0)]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            names = ", ".join(missing[:5]) + more
            raise ValueError(f"dataset {features.dataset}: no training pictures of {names}")
        # an epoch is as long for one seed's classes as for another's
        self._shots_nominal = min(config.shots, int(per_class.max()))

    def pictures(self, features: np.ndarray, labels: np.ndarray) -> Pictures:
        """Copies on the device (the arrays may be read-only views of shared memory)."""
        device = self._clip.device
        return Pictures(
            torch.tensor(features, dtype=self._dtype, device=device),
            torch.tensor(labels, device=device),
        )

    def task(self, universe: np.ndarray, seen: Sequence[np.ndarray]) -> Task:
        """The task over classes 0..len(universe)-1 with each replica's own seen classes."""
        n_cls = len(universe)
        is_seen = np.zeros((len(self._seeds), n_cls), dtype=bool)
        for row, classes in zip(is_seen, seen, strict=True):
            row[classes] = True
        unseen = [np.flatnonzero(~row) for row in is_seen]
        rows = [self._draw(seed, c) for seed, c in zip(self._seeds, seen, strict=True)]
        hidden = [self._draw(seed, c) for seed, c in zip(self._seeds, unseen, strict=True)]
        names = self._features.class_names[:n_cls]
        texts = [self._features.template.format(name) for name in names]
        device = self._clip.device
        return Task(
            class_names=names,
            text_features=self._clip.encode_texts(texts).to(self._dtype),
            seen=torch.tensor(is_seen, device=device),
            features=self._rows(rows),
            labels=self._labels(rows),
            counts=tuple(map(len, rows)),
            n_nominal=len(seen[0]) * self._shots_nominal,
            shots=self._shots_nominal,
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
        """Rows of the training split, ordered by class."""
        labels = self._features.train_labels
        drawn = few_shot_indices(labels, self._shots, seed, classes)
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
