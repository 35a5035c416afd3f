"""A dataset as labeled features, and the parts of it that a trial uses. Imports no torch.

The functions select and order the classes of a trial, and draw the training images and the
pseudo-new classes of a seed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import floor
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt64

from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from ship.datasets import DatasetScan, ImageDataset

Ids = Int64[np.ndarray, " _"]


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """A dataset as unit-norm features: numpy arrays, which Ray shares without copies.

    Arrays may be read-only and must not be modified. A split has no rows if it has no images or was
    not requested. A dataset without training images can only be a target.

    Attributes:
        class_names: Class names by label.
        template: Prompt with one {} for a class name.
        dataset: Name of the dataset.
        dataset_fingerprint: Hash of the dataset.
        backbone_fingerprint: Hash of the backbone that computed the features.
        train: Training features, (images, 1 + views, feature_dim). View 0 is preprocessed like a
            test image, without augmentation.
        train_labels: Labels of the training images.
        val: Validation features, (images, feature_dim).
        val_labels: Labels of the validation images.
        test: Test features, (images, feature_dim).
        test_labels: Labels of the test images.
        n_seen: Number of officially seen classes, which come first. None without an official split.
        few_shot: Few-shot lists of a split file: seed -> rows of `train` that it uses, ascending.
            {} without lists: images are then drawn at random.
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
    few_shot: Mapping[int, Ids] = field(default_factory=dict)

    @property
    def n_base(self) -> int:
        """Number of base classes, which come first: officially seen ones, else ceil(n / 2)."""
        return count_base(len(self.class_names), self.n_seen)

    def first_classes(self, n: int) -> "FeatureSet":
        """Return the dataset restricted to n classes, relabeled.

        Without an official split these are the first n classes, otherwise the first seen and the
        first unseen ones.

        Args:
            n: Number of classes to keep, at most all.
        """
        return self.select_classes(*_select_first_labels(n, len(self.class_names), self.n_seen))

    def select_classes(self, labels_to_keep: Ids, n_seen: int | None) -> "FeatureSet":
        """Return the dataset restricted to some classes, relabeled from 0.

        Args:
            labels_to_keep: Labels of the classes to keep, in the new order.
            n_seen: Number of officially seen classes among them. None without an official split.
        """
        new_label = np.full(len(self.class_names), -1)
        new_label[labels_to_keep] = np.arange(len(labels_to_keep))
        arrays: dict[str, Any] = {}
        few_shot: Mapping[int, Ids] = self.few_shot
        for split in ("train", "val", "test"):
            labels = new_label[getattr(self, f"{split}_labels")]
            rows = labels >= 0
            # arrays that keep all rows are shared, not copied
            arrays[split] = getattr(self, split)[slice(None) if rows.all() else rows]
            arrays[f"{split}_labels"] = labels[rows]
            if split == "train":
                new_row = np.cumsum(rows) - 1
                few_shot = {s: new_row[drawn[rows[drawn]]] for s, drawn in few_shot.items()}
        names = tuple(self.class_names[label] for label in labels_to_keep)
        return replace(self, class_names=names, n_seen=n_seen, few_shot=few_shot, **arrays)

    def count_shots(self, classes: Ids, shots: int | None) -> Float64[np.ndarray, " _"]:
        """Return the number of training images of each class that a seed uses.

        With few-shot lists, it is the mean over all listed seeds, so that epochs have the same
        length for all seeds.

        Args:
            classes: Labels of the classes.
            shots: Maximum number per class. None for all images.
        """
        lists = list(self.few_shot.values()) or [np.arange(len(self.train_labels))]
        labels = self.train_labels[np.concatenate(lists)]
        counts = np.bincount(labels, minlength=len(self.class_names)) / len(lists)
        limit = np.inf if shots is None else shots
        return np.asarray(np.minimum(counts[classes], limit), dtype=np.float64)

    def draw(self, shots: int, seed: int, classes: Sequence[int] | Ids) -> Ids:
        """Return the rows of `train` that a seed uses: those listed for it, or a random draw.

        Args:
            shots: Number of images per class to draw. Ignored if there are few-shot lists.
            seed: Seed of the trial. With few-shot lists, it must be one of theirs.
            classes: Labels of the classes.
        """
        if not self.few_shot:
            return draw_few_shot_indices(self.train_labels, shots, seed, classes)
        rows = self.few_shot[seed]
        return rows[np.isin(self.train_labels[rows], classes)]


def find_listed_rows(scan: "DatasetScan", rows: Ids | None = None) -> dict[int, Ids]:
    """Return the rows of each seed's listed few-shot images; {} without lists.

    Args:
        scan: Dataset with the lists.
        rows: Indices of the training images to use. The result then contains positions in `rows`,
            and omits all other images. Defaults to all training images.
    """
    images = scan.splits["train"].images
    used = range(len(images)) if rows is None else rows.tolist()
    index_of = {images[row].name: i for i, row in enumerate(used)} if scan.few_shot else {}
    return {
        seed: np.array(sorted(index_of[name] for name in names if name in index_of), dtype=np.int64)
        for seed, names in scan.few_shot.items()
    }


def make_bare_features(name: str, scan: "DatasetScan | ImageDataset") -> FeatureSet:
    """Return a FeatureSet with a dataset's labels and features of size 0.

    Requirements can be checked with it before features are extracted.
    """
    labels = {split: part.labels for split, part in scan.splits.items()}
    empty = {split: np.empty((len(rows), 0), np.float32) for split, rows in labels.items()}
    return FeatureSet(
        class_names=scan.class_names, template="{}", dataset=name, dataset_fingerprint="",
        backbone_fingerprint="", n_seen=scan.n_seen, few_shot=find_listed_rows(scan),
        train=empty["train"][:, None], val=empty["val"], test=empty["test"],
        **{f"{split}_labels": rows for split, rows in labels.items()},
    )  # fmt: skip


def select_studied_classes(config: TrialConfig, features: FeatureSet) -> FeatureSet:
    """Restrict a dataset to the classes that a trial uses, relabeled (see select_studied_labels).

    Raises:
        ValueError: `unseen_class` is not a class of the dataset.
    """
    labels, n_seen = select_studied_labels(config, features.class_names, features.n_seen)
    return features.select_classes(labels, n_seen)


def count_base(n_classes: int, n_seen: int | None) -> int:
    """Return the number of base classes, which come first.

    Args:
        n_classes: Number of all classes.
        n_seen: Number of officially seen classes. None without an official split: the base classes
            are then the first ceil(n_classes / 2).
    """
    return (n_classes + 1) // 2 if n_seen is None else n_seen


def select_studied_labels(
    config: TrialConfig, names: Sequence[str], n_seen: int | None
) -> tuple[Ids, int | None]:
    """Return the labels of the classes that a trial uses, in the trial's order.

    These are all classes of the dataset, or a part of them if `max_classes` is set. Under protocol
    single_unseen, `unseen_class` is moved to the end and always kept.

    Args:
        config: Configuration of the trial.
        names: Class names of its dataset, by label.
        n_seen: Number of officially seen classes. None without an official split.

    Returns:
        Labels of the classes in the dataset, and the number of officially seen ones among them.
        Without an official split, this is None unless `unseen_class` was moved: all other classes
        then count as seen.

    Raises:
        ValueError: `unseen_class` is not a class of the dataset.
    """
    order, unseen = np.arange(len(names)), config.unseen_class
    if config.protocol == "single_unseen" and unseen is not None:
        if unseen not in names:
            close_names = get_close_matches(unseen, names, n=3)
            label, examples = ("nearest", close_names) if close_names else ("e.g.", names[:3])
            raise ValueError(
                f"unseen_class must be a class of {config.dataset}, got {unseen!r} "
                f"({label}: {', '.join(examples)})"
            )
        last = names.index(unseen)
        # counted as the only unseen class, it is kept for any max_classes
        order, n_seen = np.r_[:last, last + 1 : len(names), last], len(names) - 1
    if config.max_classes is None:
        return order, n_seen
    labels, n_seen = _select_first_labels(min(config.max_classes, len(names)), len(names), n_seen)
    return order[labels], n_seen


def _select_first_labels(n: int, n_classes: int, n_seen: int | None) -> tuple[Ids, int | None]:
    """Return the labels of n classes, and the number of officially seen ones among them.

    Without an official split, these are the first n classes. With one, they are the first
    ceil(n / 2) seen and floor(n / 2) unseen classes; if there are too few of one kind, there are
    more of the other.
    """
    if n_seen is None:
        return np.arange(n), None
    unseen = min(n // 2, n_classes - n_seen)
    seen = min(n - unseen, n_seen)
    return np.r_[:seen, n_seen : n_seen + n - seen], seen


def draw_few_shot_indices(
    labels: Int64[np.ndarray, " images"], shots: int, seed: int, classes: Sequence[int] | Ids
) -> Ids:
    """Draw `shots` images per class at random.

    The draw of a class is determined by the seed, its label and its number of images. The draw of
    fewer shots is a subset of the draw of more. A class with fewer images contributes all of them.

    Args:
        labels: Label of each image.
        shots: Number of images per class.
        seed: Seed of the draw.
        classes: Distinct labels to draw from, in any order.

    Returns:
        Sorted indices into `labels`.
    """
    parts = [np.empty(0, np.int64)]
    for label in classes:
        rows = np.flatnonzero(labels == label)
        parts.append(rows[_make_permutation(len(rows), f"few_shot {seed} {label}")[:shots]])
    return np.sort(np.concatenate(parts))


def draw_pseudo_new(
    seen_labels: Sequence[int] | Ids, fraction: float, seed: int
) -> tuple[Ids, Ids]:
    """Hold out a random fraction of the seen classes as pseudo-new classes, for selection.

    The sizes depend only on the number of classes and the fraction, so that H is computed over the
    same number of classes for all seeds. Each group has at least 2 classes, or 1 if there are fewer
    than 4 in total.

    Args:
        seen_labels: Distinct labels of the seen classes, at least 2.
        fraction: Fraction of pseudo-new classes, between 0 and 1.
        seed: Seed of the draw.

    Returns:
        The labels of the remaining (seen) classes and of the pseudo-new classes, each sorted.
    """
    labels = np.sort(np.asarray(seen_labels, dtype=np.int64))
    minimum = 2 if len(labels) >= 4 else 1
    n_pseudo = min(max(floor(fraction * len(labels) + 0.5), minimum), len(labels) - minimum)
    order = labels[_make_permutation(len(labels), f"pseudo_new {seed}")]
    return np.sort(order[n_pseudo:]), np.sort(order[:n_pseudo])


def _make_permutation(n: int, key: str) -> Int64[np.ndarray, " n"]:
    """Return a permutation that depends only on `n` and `key`, on every machine.

    It is the sort order of raw PCG64 output, which numpy guarantees never to change. The output of
    Generator's methods may change between releases, which would make results incomparable.
    """
    words = np.frombuffer(hashlib.sha256(key.encode()).digest(), dtype="<u4")
    raw: UInt64[np.ndarray, " n"] = np.random.PCG64(words.tolist()).random_raw(n)
    return np.argsort(raw, kind="stable")
