"""Extraction after interruptions and faults resumes from complete shards, with equal features."""

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ship.features.extract
from ship.datasets import DatasetError, ImageDataset
from ship.features import (
    count_missing,
    extract_features,
)
from ship.subsets import FeatureSet
from tests.ship.features.encoders import (
    SHARD,
    SIZES,
    VIEWS,
    SlowEncoder,
    hash_features,
    interrupt_extraction,
    list_shards,
    make_sharded_dataset,
)

OTHER_SPLITS = SIZES["val"] + SIZES["test"]  # images without augmented views


def test_shards_equal_a_single_pass(
    sharded_dataset: ImageDataset,
    expected_features: FeatureSet,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The features of a split in three shards are bitwise those of a single pass."""
    monkeypatch.setattr(ship.features.extract, "_VIEWS", 100_000)
    whole = extract_features(SlowEncoder(), sharded_dataset, VIEWS, tmp_path)
    assert hash_features(whole) == hash_features(expected_features)
    assert len(list_shards(tmp_path)) == 3


def test_shards_without_requested_classes_are_not_extracted(
    sharded_dataset: ImageDataset, expected_features: FeatureSet, tmp_path: Path
) -> None:
    """The features of the requested classes are bitwise equal, and later calls use their shards."""
    labels = {split: np.arange(n) // SHARD for split, n in SIZES.items()}
    splits = {
        split: replace(part, labels=labels[split]) for split, part in sharded_dataset.splits.items()
    }
    classes = replace(sharded_dataset, class_names=("a", "b", "c"), splits=splits)
    encoder = SlowEncoder()
    assert count_missing(encoder, classes, VIEWS, tmp_path, classes=[1]) == {"train": SHARD}
    result = extract_features(encoder, classes, VIEWS, tmp_path, classes=[1])
    assert np.array_equal(result.train, expected_features.train[SHARD : 2 * SHARD])
    assert result.train_labels.tolist() == [1] * SHARD and result.class_names == ("a", "b", "c")
    assert not len(result.val) and not len(result.test_labels)
    assert encoder.encoded == SHARD * (1 + VIEWS)
    assert hash_features(extract_features(encoder, classes, VIEWS, tmp_path)) == hash_features(
        expected_features
    )
    assert encoder.encoded == SIZES["train"] * (1 + VIEWS) + OTHER_SPLITS
    assert count_missing(encoder, classes, VIEWS, tmp_path) == {}


def test_interrupted_extraction_keeps_complete_shards(
    sharded_dataset: ImageDataset, expected_features: FeatureSet, tmp_path: Path
) -> None:
    """The next call encodes only missing shards, and its progress includes the complete ones."""
    interrupt_extraction(sharded_dataset, tmp_path, after=(2 * SHARD + 10) * 4)
    assert len(list_shards(tmp_path)) == 2
    encoder, progress = SlowEncoder(), []
    result = extract_features(
        encoder, sharded_dataset, VIEWS, tmp_path, lambda *args: progress.append(args)
    )
    assert encoder.encoded == 45 * 4 + OTHER_SPLITS
    total = SIZES["train"] * 4 + OTHER_SPLITS
    assert progress[0] == (2 * SHARD * 4, total)
    assert progress[-1] == (total, total)
    assert hash_features(result) == hash_features(expected_features)
    assert not result.train.flags.writeable
    assert sorted(list_shards(tmp_path)) == sorted(tmp_path.iterdir())


def test_undecodable_images_are_all_named(tmp_path: Path) -> None:
    """The error has those of all shards, and shards without any are cached."""
    (tmp_path / "images").mkdir()
    dataset = make_sharded_dataset(tmp_path / "images")
    contents = {}
    for i in (SHARD + 3, 2 * SHARD + 40):
        path = tmp_path / "images" / f"train{i}.png"
        contents[path] = path.read_bytes()
        path.write_bytes(b"not an image")
    threads = torch.get_num_threads()
    with pytest.raises(DatasetError, match="2 images of train cannot be decoded") as caught:
        extract_features(SlowEncoder(), dataset, VIEWS, tmp_path / "cache")
    assert all(str(path) in str(caught.value) for path in contents)
    assert torch.get_num_threads() == threads
    assert len(list_shards(tmp_path / "cache")) == 1
    for path, content in contents.items():
        path.write_bytes(content)
    encoder = SlowEncoder()
    extract_features(encoder, dataset, VIEWS, tmp_path / "cache")
    assert encoder.encoded == (SHARD + 45) * 4 + OTHER_SPLITS


def test_unwritable_cache_only_causes_warnings(
    sharded_dataset: ImageDataset,
    expected_features: FeatureSet,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Features are kept in memory, and there is a warning per split."""
    (tmp_path / "file").write_text("x")
    with caplog.at_level(logging.WARNING):
        result = extract_features(SlowEncoder(), sharded_dataset, VIEWS, tmp_path / "file")
    assert hash_features(result) == hash_features(expected_features)
    assert not result.train.flags.writeable
    warnings = [record for record in caplog.records if "cannot be cached" in record.message]
    assert len(warnings) == 3


def test_damaged_and_swapped_shards_are_encoded_again(
    sharded_dataset: ImageDataset,
    expected_features: FeatureSet,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A flipped bit, and a file with the content of another shard, cause one warning each."""
    interrupt_extraction(sharded_dataset, tmp_path, (2 * SHARD + 10) * 4)
    first, second = list_shards(tmp_path)
    content = bytearray(first.read_bytes())
    second.write_bytes(content)
    content[-5] ^= 4
    first.write_bytes(content)
    encoder = SlowEncoder()
    assert hash_features(
        extract_features(encoder, sharded_dataset, VIEWS, tmp_path)
    ) == hash_features(expected_features)
    assert encoder.encoded == SIZES["train"] * 4 + OTHER_SPLITS
    for file, record in zip((first, second), caplog.records, strict=True):
        assert str(file) in record.getMessage()


@pytest.mark.faults
def test_two_processes_can_extract_the_same_split(
    expected_features: FeatureSet, tmp_path: Path
) -> None:
    """Both return the same features."""
    for second_delay in (0.0, 0.01):
        cache = tmp_path / str(second_delay)
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.ship.features.encoders", str(cache), str(seconds)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for seconds in (0.0, second_delay)
        ]
        for process in processes:
            out, error = process.communicate(timeout=120)
            assert (out.strip(), error) == (hash_features(expected_features), "")
        assert sorted(list_shards(cache)) == sorted(cache.iterdir())
