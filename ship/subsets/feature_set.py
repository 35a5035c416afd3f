"""A dataset as features with labels, and its part with the first classes."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int64


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
        relabelled = [new_label[labels] for labels in self._labels]
        train, val, test = (labels >= 0 for labels in relabelled)
        return replace(
            self,
            class_names=tuple(self.class_names[label] for label in kept),
            train=self.train[train],
            train_labels=relabelled[0][train],
            val=self.val[val],
            val_labels=relabelled[1][val],
            test=self.test[test],
            test_labels=relabelled[2][test],
            n_seen=n_seen,
        )

    @property
    def _labels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.train_labels, self.val_labels, self.test_labels
