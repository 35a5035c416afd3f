"""Image features of a whole dataset: extracted once, cached by content, read from a memory map."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from ship.datasets.base import SPLITS, PictureDataset
from ship.extraction import EXTRACTION_VERSION, ImageEncoder, encode_split
from ship.feature_cache import cache_key, cache_path, read_features, write_features
from ship.views import AUGMENTATION

Progress = Callable[[int, int], None]
"""Called with (views done, views to do in all), from the calling thread."""


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """A dataset as frozen features: plain numpy, so that Ray shares it without copies.

    Arrays may be read-only and must never be written to.

    class_names: by label. template: prompt with one {} for a class name.
    train: (pictures, 1 + views, feature_dim); view 0 is the picture as test pictures are seen.
    val, test: (pictures, feature_dim). All features are of unit norm.
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

    def first_classes(self, n: int) -> "FeatureSet":
        """The part with labels below n.

        Raises:
            ValueError: n is not between 1 and the number of classes.
        """
        if not 1 <= n <= len(self.class_names):
            raise ValueError(
                f"max_classes must lie between 1 and the {len(self.class_names)} classes "
                f"of {self.dataset}, got {n}"
            )
        train, val, test = (labels < n for labels in self._labels)
        return replace(
            self,
            class_names=self.class_names[:n],
            train=self.train[train],
            train_labels=self.train_labels[train],
            val=self.val[val],
            val_labels=self.val_labels[val],
            test=self.test[test],
            test_labels=self.test_labels[test],
        )

    @property
    def _labels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.train_labels, self.val_labels, self.test_labels


def extract_features(
    clip: ImageEncoder,
    dataset: PictureDataset,
    views: int,
    cache_dir: Path,
    progress: Progress | None = None,
) -> FeatureSet:
    """Features of all three splits, from the cache where it has them.

    Args:
        views: augmented views of each training picture, beside the picture itself.
        cache_dir: where features are kept, a file a split.
        progress: called at the start and after each batch; never where all is cached.
    Raises:
        DatasetError: pictures that cannot be decoded, by name; nothing of their split is kept.
        ValueError: views < 0, or the backbone gives features that are not finite.
    """
    if views < 0:
        raise ValueError(f"views must be >= 0, got {views}")
    extra = {"train": views, "val": 0, "test": 0}
    keys = {split: _key(clip, dataset, split, extra[split]) for split in SPLITS}
    label = f"{dataset.name}-{clip.name}"
    paths = {split: cache_path(cache_dir, f"{label}-{split}", keys[split]) for split in SPLITS}
    cached = {split: read_features(paths[split], keys[split]) for split in SPLITS}
    todo = [split for split in SPLITS if cached[split] is None]
    sizes = {split: len(dataset.splits[split]) * (1 + extra[split]) for split in todo}

    def report(done: int) -> None:
        if progress is not None:
            progress(done, sum(sizes.values()))

    found = {split: features for split, features in cached.items() if features is not None}
    finished = 0
    if todo:
        report(0)
    for split in todo:
        rows = []
        for done, batch in encode_split(clip, dataset, split, extra[split]):
            rows.append(batch)
            report(finished + done)
        finished += sizes[split]
        found[split] = np.concatenate(rows)
        found[split].flags.writeable = False
        write_features(paths[split], keys[split], found[split])
    return _feature_set(clip, dataset, found)


def _key(clip: ImageEncoder, dataset: PictureDataset, split: str, views: int) -> str:
    return cache_key(
        {
            "extraction_version": EXTRACTION_VERSION,
            "backbone": clip.fingerprint,
            "preprocess": clip.preprocess_id,
            "dataset": dataset.fingerprint,
            "split": split,
            "views": views,
            "augmentation": AUGMENTATION if views else "",
        }
    )


def _feature_set(
    clip: ImageEncoder, dataset: PictureDataset, found: dict[str, np.ndarray]
) -> FeatureSet:
    return FeatureSet(
        class_names=dataset.class_names,
        template=dataset.template,
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        backbone_fingerprint=clip.fingerprint,
        train=found["train"],
        train_labels=dataset.splits["train"].labels,
        val=found["val"][:, 0],
        val_labels=dataset.splits["val"].labels,
        test=found["test"][:, 0],
        test_labels=dataset.splits["test"].labels,
    )
