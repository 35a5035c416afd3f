"""Feature sets of every layout: spoilt pictures, empty splits, chosen splits, official classes."""

from pathlib import Path

import numpy as np
import pytest

from ship.datasets import DatasetError, PictureDataset, load_dataset
from ship.features import extract_features
from ship.subsets import FeatureSet
from tests.ship.datasets.trees import LAYOUTS
from tests.ship.features.encoders import FakeEncoder
from tests.told import told


def small(name: str, root: Path) -> PictureDataset:
    """A small dataset of a layout."""
    LAYOUTS[name](root)
    return load_dataset(name, root)


def seen_unseen(n_seen: int | None, n: int) -> FeatureSet:
    """n classes with one picture each in every split; a feature is its class's number."""
    labels = np.arange(n)
    features = np.repeat(labels[:, None], 3, axis=1).astype(np.float32)
    return FeatureSet(
        class_names=tuple("abcdefghij"[:n]),
        template="{}",
        dataset="letters",
        dataset_fingerprint="d",
        backbone_fingerprint="b",
        train=features[:, None],
        train_labels=labels,
        val=features,
        val_labels=labels,
        test=features,
        test_labels=labels,
        n_seen=n_seen,
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_features_or_names_pictures_that_cannot_be_decoded(
    name: str, tmp_path: Path
) -> None:
    """A truncated file passes the cheap checks; extraction names it, keeping nothing.

    Before, there is a row a picture in every split, with the dataset's labels and official classes.
    """
    dataset = small(name, tmp_path)
    found = extract_features(FakeEncoder(), dataset, 1, tmp_path / "sound")
    assert found.n_seen == dataset.n_seen
    for part, split in dataset.splits.items():
        assert len(getattr(found, part)) == len(split)
        assert np.array_equal(getattr(found, f"{part}_labels"), split.labels)
    path = dataset.splits["test"].pictures[-1].source
    assert isinstance(path, Path)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DatasetError, match="1 pictures of test cannot be decoded") as caught:
        extract_features(FakeEncoder(), dataset, 1, tmp_path / "cache")
    assert str(path) in str(caught.value)
    assert not list((tmp_path / "cache").glob("*-test-*"))
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_empty_splits_cost_nothing(tmp_path: Path) -> None:
    """Splits without pictures are empty arrays of the right form, without files or progress."""
    encoder, calls = FakeEncoder(), []
    target = small("imagenet_r", tmp_path)
    found = extract_features(encoder, target, 2, tmp_path / "cache", lambda *at: calls.append(at))
    assert (found.train.shape, found.val.shape) == ((0, 3, 12), (0, 12))
    assert found.train_labels.shape == found.val_labels.shape == (0,)
    assert found.train_labels.dtype == np.int64
    assert found.test.shape == (4, 12)
    assert encoder.encoded == calls[-1][1] == 4
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 1
    assert found.first_classes(1).test.shape == (2, 12)


def test_only_named_splits_are_extracted(tmp_path: Path) -> None:
    """Others are empty whatever pictures they have, and are extracted when they are asked for."""
    dataset = small("caltech101", tmp_path)
    encoder, cache = FakeEncoder(), tmp_path / "cache"
    part = extract_features(encoder, dataset, 1, cache, splits=("test",))
    assert encoder.encoded == 4
    assert (part.train.shape, part.val.shape, part.test.shape) == ((0, 2, 12), (0, 12), (4, 12))
    assert len(part.train_labels) == len(part.val_labels) == 0
    whole = extract_features(encoder, dataset, 1, cache)
    assert encoder.encoded == 4 + 12 + 2
    assert np.array_equal(part.test, whole.test)
    nothing = extract_features(encoder, dataset, 1, cache, splits=())
    assert nothing.test.shape == (0, 0)


@pytest.mark.parametrize(("n_seen", "n", "names"), told(__file__, "halves.yaml"))
def test_first_classes_of_an_official_split(n_seen: int | None, n: int, names: str) -> None:
    """Half seen and half unseen, the rest of one kind where the other has no more; relabelled."""
    whole = seen_unseen(n_seen, 10)
    part = whole.first_classes(n)
    assert "".join(part.class_names) == names
    assert len(part.class_names) == n
    if n_seen is None:  # CoOp's half: the larger one
        assert (whole.n_base, part.n_base) == (5, 2) and seen_unseen(None, 7).n_base == 4
    else:
        assert part.n_seen == sum(whole.class_names.index(name) < n_seen for name in names)
        assert whole.n_base == n_seen
    for labels, features in (
        (part.train_labels, part.train[:, 0]),
        (part.val_labels, part.val),
        (part.test_labels, part.test),
    ):
        assert labels.tolist() == list(range(n))
        assert labels.dtype == np.int64
        expected = [whole.class_names.index(name) for name in names]
        assert features[:, 0].astype(int).tolist() == expected
