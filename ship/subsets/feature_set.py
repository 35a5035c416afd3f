"""A dataset as features with labels, and the part of its classes that a trial studies."""

from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
from jaxtyping import Float32, Int64

from ship.trial_config import TrialConfig


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
        """The part with the first n classes, relabelled.

        With an official split, the first ceil(n / 2) seen and floor(n / 2) unseen ones; where one
        kind has fewer, the other fills the places, so that all classes are the set itself.

        Raises:
            ValueError: n is not between 1 and the number of classes.
        """
        whole = len(self.class_names)
        if not 1 <= n <= whole:
            raise ValueError(
                f"max_classes must lie between 1 and the {whole} classes of {self.dataset}, got {n}"
            )
        if self.n_seen is None:
            return self._only(np.arange(n), None)
        unseen = min(n // 2, whole - self.n_seen)
        seen = min(n - unseen, self.n_seen)
        kept = np.r_[:seen, self.n_seen : self.n_seen + n - seen]
        return self._only(kept, seen)

    def _only(self, kept: Int64[np.ndarray, " kept"], n_seen: int | None) -> "FeatureSet":
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


def studied_classes(config: TrialConfig, features: FeatureSet) -> FeatureSet:
    """The dataset cut to max_classes; under single_unseen with the unseen class last.

    Raises:
        ValueError: `unseen_class` is no class of the dataset.
    """
    names, unseen = features.class_names, config.unseen_class
    if config.protocol == "single_unseen" and unseen is not None:
        if unseen not in names:
            near = ", ".join(get_close_matches(unseen, names, n=3) or names[:3])
            raise ValueError(
                f"unseen_class must be a class of {features.dataset}, got {unseen!r} "
                f"(nearest: {near})"
            )
        last = names.index(unseen)
        order = np.r_[:last, last + 1 : len(names), last]
        # with that class officially unseen, it survives whatever the limit is
        features = features._only(order, len(names) - 1)
    if config.max_classes is None:
        return features
    return features.first_classes(min(config.max_classes, len(names)))
