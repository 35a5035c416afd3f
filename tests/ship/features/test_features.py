"""Extraction of the features of whole datasets with a fake encoder."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ship.clip import FrozenCLIP
from ship.datasets import ImageDataset, ImageFile, Split, load_dataset
from ship.datasets.content import hash_dataset
from ship.features import extract_features
from ship.features.encode import augment_image
from ship.subsets import FeatureSet
from tests.ship.datasets.conftest import save_image
from tests.ship.datasets.trees import LAYOUTS
from tests.ship.features.encoders import SIZE, FakeEncoder, preprocess

SIZES = {"train": 11, "val": 3, "test": 5}


@pytest.fixture
def dataset(tmp_path: Path) -> ImageDataset:
    """Return a dataset of noise images of different shapes, whose labels repeat 0, 1, 2."""
    splits = {}
    for split, n in SIZES.items():
        paths = [tmp_path / "images" / f"{split}{i}.png" for i in range(n)]
        for i, path in enumerate(paths):
            save_image(path, seed=i, size=(20 + i, 30 - i))
        images = tuple(ImageFile(path.name, path) for path in paths)
        splits[split] = Split(images, np.arange(n, dtype=np.int64) % 3)
    names = ("a", "b", "c")
    dataset = ImageDataset(names, splits, name="noise", template="a photo of a {}.")
    return replace(dataset, fingerprint=hash_dataset(dataset))


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    """Return the path of a folder that does not exist yet."""
    return tmp_path / "cache"


def test_view_0_is_the_test_image_and_others_are_crops(
    dataset: ImageDataset, cache_dir: Path
) -> None:
    """The features of all views have the order of the split's images."""
    encoder = FakeEncoder()
    result = extract_features(encoder, dataset, 2, cache_dir)
    assert result.train.shape == (11, 3, 12)
    assert result.val.shape == (3, 12)
    assert result.test.shape == (5, 12)
    for i, file in enumerate(dataset.splits["train"].images):
        image = file.open()
        expected = [preprocess(image)]
        for view in (1, 2):
            pixels = augment_image(image, (SIZE, SIZE), i, view).astype(np.float32)
            expected.append(torch.from_numpy(pixels / 255).permute(2, 0, 1).sub(0.5).div(0.25))
        features = encoder.encode_images(torch.stack(expected)).numpy()
        np.testing.assert_allclose(result.train[i], features, atol=1e-6)
    last = preprocess(dataset.splits["test"].images[-1].open())
    np.testing.assert_allclose(result.test[-1], encoder.encode_images(last[None])[0], atol=1e-6)
    assert result.test_labels.tolist() == [0, 1, 2, 0, 1]
    assert (result.dataset, result.backbone_fingerprint) == ("noise", "f0")


def test_cached_features_are_not_encoded_again(dataset: ImageDataset, cache_dir: Path) -> None:
    """They are equal and read-only, and no progress is reported."""
    encoded = extract_features(FakeEncoder(), dataset, 2, cache_dir)
    encoder, progress = FakeEncoder(), []
    cached = extract_features(encoder, dataset, 2, cache_dir, lambda *args: progress.append(args))
    assert encoder.encoded == 0
    assert not progress
    for split in SIZES:
        assert np.array_equal(getattr(encoded, split), getattr(cached, split))
        assert not getattr(encoded, split).flags.writeable
        assert not getattr(cached, split).flags.writeable


@pytest.mark.parametrize(
    ("change", "encoded"),
    [
        (lambda e, d: (replace(e, fingerprint="f1"), d, 1), 30),
        (lambda e, d: (replace(e, preprocess_id="p1"), d, 1), 30),
        (lambda e, d: (e, replace(d, fingerprint="d1"), 1), 30),
        (lambda e, d: (e, d, 2), 33),
        (lambda e, d: (replace(e, name="other name"), replace(d, name="../a/b"), 1), 30),
    ],
    ids=["weights", "preprocessing", "content", "views of training images", "names"],
)
def test_cache_key_has_everything_that_determines_features(
    dataset: ImageDataset,
    cache_dir: Path,
    change: Callable[[FakeEncoder, ImageDataset], tuple[FakeEncoder, ImageDataset, int]],
    encoded: int,
) -> None:
    """Only images with other weights, preprocessing, content or views are extracted again."""
    extract_features(FakeEncoder(), dataset, 1, cache_dir)
    encoder, changed_dataset, views = change(FakeEncoder(), dataset)
    progress: list[tuple[int, int]] = []
    extract_features(
        encoder, changed_dataset, views, cache_dir, lambda *args: progress.append(args)
    )
    assert encoder.encoded == encoded
    assert progress == sorted(progress) and {total for _, total in progress} == {encoded}
    assert (progress[0][0], progress[-1][0]) == (0, encoded)
    # files are in the cache folder itself, even if the dataset's name has slashes
    assert len(list(cache_dir.glob("*.safetensors"))) > 3


def test_non_finite_features_are_rejected(dataset: ImageDataset, cache_dir: Path) -> None:
    """They are not written to the cache."""
    with pytest.raises(ValueError, match="backbone fake returned non-finite features"):
        extract_features(FakeEncoder(scale=float("inf")), dataset, 1, cache_dir)
    assert not list(cache_dir.glob("*"))


def test_extracted_features_equal_those_of_encode_images(
    clip: FrozenCLIP, dataset: ImageDataset, cache_dir: Path
) -> None:
    """FrozenCLIP's features equal those of a single call for all images, and have unit norm."""
    result = extract_features(clip, dataset, 1, cache_dir)
    images = torch.stack([clip.preprocess(file.open()) for file in dataset.splits["test"].images])
    np.testing.assert_allclose(result.test, clip.encode_images(images).numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(result.train, axis=2), 1, atol=1e-5)


def test_feature_arrays_are_pickled_without_copies(dataset: ImageDataset, cache_dir: Path) -> None:
    """Each array is a separate buffer, which processes share in Ray's object store."""
    extract_features(FakeEncoder(), dataset, 1, cache_dir)
    cached = extract_features(FakeEncoder(), dataset, 1, cache_dir)
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(cached, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == 6
    assert len(body) < 2000
    result: FeatureSet = pickle.loads(body, buffers=buffers)  # noqa: S301
    assert np.shares_memory(result.train, cached.train)


def test_only_requested_splits_are_extracted(tmp_path: Path) -> None:
    """Other splits are empty, and are extracted when they are requested."""
    LAYOUTS["caltech101"](tmp_path)
    dataset = load_dataset("caltech101", tmp_path)
    encoder, cache = FakeEncoder(), tmp_path / "cache"
    part = extract_features(encoder, dataset, 1, cache, splits=("test",))
    assert encoder.encoded == 4
    assert (part.train.shape, part.val.shape, part.test.shape) == ((0, 2, 12), (0, 12), (4, 12))
    assert len(part.train_labels) == len(part.val_labels) == 0
    whole = extract_features(encoder, dataset, 1, cache)
    assert encoder.encoded == 4 + 12 + 2
    assert np.array_equal(part.test, whole.test)
    empty = extract_features(encoder, dataset, 1, cache, splits=())
    assert empty.test.shape == (0, 0)
