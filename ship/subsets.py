"""A dataset as labelled features, and the parts of it that a trial studies; numpy alone.

Which classes a trial has and in which order, and which pictures and classes a seed draws.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import floor
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64, UInt64

from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from ship.datasets import PictureDataset, Survey

Ids = Int64[np.ndarray, " _"]


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """A dataset as frozen features: plain numpy, so that Ray shares it without copies.

    Arrays may be read-only and must never be written to.

    class_names: by label. template: prompt with one {} for a class name.
    train: (pictures, 1 + views, feature_dim); view 0 is the picture as test pictures are seen.
    val, test: (pictures, feature_dim). All features are of unit norm. A split without pictures,
        or one that was not asked for, has none: such a set can be a target, not a source.
    n_seen: classes 0 .. n_seen - 1 are the officially seen ones; None: there is no official split.
    """

    class_names: tuple[str, ...]
    template: str
    dataset: str
    dataset_fingerprint: str
    backbone_fingerprint: str
    train: Float32[np.ndarray, "train views feature"]
    train_labels: Int64[np.ndarray, " train"]
    val: Float32[np.ndarray, "val feature"]
    val_labels: Int64[np.ndarray, " val"]
    test: Float32[np.ndarray, "test feature"]
    test_labels: Int64[np.ndarray, " test"]
    n_seen: int | None = None

    @property
    def n_base(self) -> int:
        """How many classes, the first ones, are base: the seen ones, else CoOp's ceil(n / 2)."""
        return (len(self.class_names) + 1) // 2 if self.n_seen is None else self.n_seen

    def first_classes(self, n: int) -> "FeatureSet":
        """The part with the first n classes, relabelled; n is at most the number of classes."""
        return self.only(*_first_labels(n, len(self.class_names), self.n_seen))

    def only(self, kept: Ids, n_seen: int | None) -> "FeatureSet":
        """The part with some classes, labelled 0, 1, ... in that order."""
        new_label = np.full(len(self.class_names), -1)
        new_label[kept] = np.arange(len(kept))
        found = {}
        for split in ("train", "val", "test"):
            labels = new_label[getattr(self, f"{split}_labels")]
            rows = labels >= 0
            # what loses no row is shared, not copied
            found[split] = getattr(self, split)[slice(None) if rows.all() else rows]
            found[f"{split}_labels"] = labels[rows]
        names = tuple(self.class_names[label] for label in kept)
        return replace(self, class_names=names, n_seen=n_seen, **found)


def bare_features(name: str, survey: "Survey | PictureDataset") -> FeatureSet:
    """A dataset's labels as a FeatureSet with features of size 0: it can be cut, not trained on."""
    labels = {split: part.labels for split, part in survey.splits.items()}
    empty = {split: np.empty((len(own), 0), np.float32) for split, own in labels.items()}
    return FeatureSet(
        class_names=survey.class_names, template="{}", dataset=name, dataset_fingerprint="",
        backbone_fingerprint="", n_seen=survey.n_seen,
        train=empty["train"][:, None], val=empty["val"], test=empty["test"],
        **{f"{split}_labels": own for split, own in labels.items()},
    )  # fmt: skip


def studied_classes(config: TrialConfig, features: FeatureSet) -> FeatureSet:
    """The dataset cut to max_classes; under single_unseen with the unseen class last.

    Raises:
        ValueError: `unseen_class` is no class of the dataset.
    """
    labels, n_seen = studied_labels(config, features.class_names, features.n_seen)
    return features.only(labels, n_seen)


def studied_labels(
    config: TrialConfig, names: Sequence[str], n_seen: int | None
) -> tuple[Ids, int | None]:
    """Select the classes that a trial studies, in its order.

    Args:
        config: Configuration of the trial.
        names: Class names of its dataset, by label.
        n_seen: Number of officially seen classes. Defaults to no official split.

    Returns:
        Their labels in the dataset, and how many of them are officially seen.

    Raises:
        ValueError: `unseen_class` is no class of the dataset.
    """
    order, unseen = np.arange(len(names)), config.unseen_class
    if config.protocol == "single_unseen" and unseen is not None:
        if unseen not in names:
            near = ", ".join(get_close_matches(unseen, names, n=3) or names[:3])
            raise ValueError(
                f"unseen_class must be a class of {config.dataset}, got {unseen!r} "
                f"(nearest: {near})"
            )
        last = names.index(unseen)
        # with that class officially unseen, it survives whatever the limit is
        order, n_seen = np.r_[:last, last + 1 : len(names), last], len(names) - 1
    if config.max_classes is None:
        return order, n_seen
    labels, n_seen = _first_labels(min(config.max_classes, len(names)), len(names), n_seen)
    return order[labels], n_seen


def _first_labels(n: int, n_classes: int, n_seen: int | None) -> tuple[Ids, int | None]:
    """Select the first n classes, and count the officially seen ones among them.

    With an official split, these are the first ceil(n / 2) seen and floor(n / 2) unseen classes. If
    one kind has fewer, the other fills up, so that all classes are the dataset itself.
    """
    if n_seen is None:
        return np.arange(n), None
    unseen = min(n // 2, n_classes - n_seen)
    seen = min(n - unseen, n_seen)
    return np.r_[:seen, n_seen : n_seen + n - seen], seen


def few_shot_indices(
    labels: Int64[np.ndarray, " pictures"], shots: int, seed: int, classes: Sequence[int] | Ids
) -> Ids:
    """Draw `shots` pictures of each class, at random but fixed by (seed, class).

    A class's draw depends on nothing else: not on the other classes, nor on call order; the draw
    of fewer shots is part of the draw of more. A class with fewer pictures gives all it has.

    Args:
        labels: the label of each picture.
        classes: distinct labels to draw from, in any order.
    Returns:
        Sorted indices into `labels`.
    """
    drawn = [np.empty(0, np.int64)]
    for label in classes:
        own = np.flatnonzero(labels == label)
        drawn.append(own[_shuffled(len(own), f"few_shot {seed} {label}")[:shots]])
    return np.sort(np.concatenate(drawn))


def pseudo_new_classes(
    base_ids: Sequence[int] | Ids, fraction: float, seed: int
) -> tuple[Ids, Ids]:
    """Hold out a seeded part of the base classes as pseudo-new, for selection.

    Sizes follow from the number of classes and the fraction alone, so that H of two seeds is over
    equally many classes. Each group keeps at least 2 classes, or 1 where there are fewer than 4.

    Args:
        base_ids: distinct labels, at least 2.
        fraction: share that becomes pseudo-new, between 0 and 1.
    Returns:
        (seen, pseudo-new) labels, each sorted.
    """
    ids = np.sort(np.asarray(base_ids, dtype=np.int64))
    least = 2 if len(ids) >= 4 else 1
    n_pseudo = min(max(floor(fraction * len(ids) + 0.5), least), len(ids) - least)
    order = ids[_shuffled(len(ids), f"pseudo_new {seed}")]
    return np.sort(order[n_pseudo:]), np.sort(order[:n_pseudo])


def _shuffled(n: int, key: str) -> Int64[np.ndarray, " n"]:
    """A permutation fixed by `key` on every machine.

    It sorts raw PCG64 output, which numpy promises never to change; the streams of Generator's
    methods may change between releases, and results would stop being comparable.
    """
    words = np.frombuffer(hashlib.sha256(key.encode()).digest(), dtype="<u4")
    raw: UInt64[np.ndarray, " n"] = np.random.PCG64(words.tolist()).random_raw(n)
    return np.argsort(raw, kind="stable")
