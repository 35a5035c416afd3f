"""Interrupted or disturbed extraction resumes from complete shards, bit by bit."""

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
    digest,
    interrupted,
    shard_files,
    streamed_dataset,
)

REST = SIZES["val"] + SIZES["test"]  # views of other splits


def test_shards_equal_a_single_pass(
    streamed: ImageDataset, plain: FeatureSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A split in three shards has bitwise the features of one pass."""
    monkeypatch.setattr(ship.features.extract, "_VIEWS", 100_000)
    whole = extract_features(SlowEncoder(), streamed, VIEWS, tmp_path)
    assert digest(whole) == digest(plain)
    assert len(shard_files(tmp_path)) == 3


def test_shards_without_requested_classes_are_not_extracted(
    streamed: ImageDataset, plain: FeatureSet, tmp_path: Path
) -> None:
    """Features are bitwise equal, and later calls share the shards."""
    labels = {split: np.arange(n) // SHARD for split, n in SIZES.items()}
    splits = {split: replace(part, labels=labels[split]) for split, part in streamed.splits.items()}
    classes = replace(streamed, class_names=("a", "b", "c"), splits=splits)
    encoder = SlowEncoder()
    assert count_missing(encoder, classes, VIEWS, tmp_path, classes=[1]) == {"train": SHARD}
    result = extract_features(encoder, classes, VIEWS, tmp_path, classes=[1])
    assert np.array_equal(result.train, plain.train[SHARD : 2 * SHARD])
    assert result.train_labels.tolist() == [1] * SHARD and result.class_names == ("a", "b", "c")
    assert not len(result.val) and not len(result.test_labels)
    assert encoder.encoded == SHARD * (1 + VIEWS)
    assert digest(extract_features(encoder, classes, VIEWS, tmp_path)) == digest(plain)
    assert encoder.encoded == SIZES["train"] * (1 + VIEWS) + REST
    assert count_missing(encoder, classes, VIEWS, tmp_path) == {}


def test_interrupted_extraction_keeps_complete_shards(
    streamed: ImageDataset, plain: FeatureSet, tmp_path: Path
) -> None:
    """The next call encodes only the rest, and counts the others as done."""
    interrupted(streamed, tmp_path, after=(2 * SHARD + 10) * 4)
    assert len(shard_files(tmp_path)) == 2
    encoder, calls = SlowEncoder(), []
    result = extract_features(encoder, streamed, VIEWS, tmp_path, lambda *at: calls.append(at))
    assert encoder.encoded == 45 * 4 + REST
    total = SIZES["train"] * 4 + REST
    assert calls[0] == (2 * SHARD * 4, total)
    assert calls[-1] == (total, total)
    assert digest(result) == digest(plain)
    assert not result.train.flags.writeable
    assert sorted(shard_files(tmp_path)) == sorted(tmp_path.iterdir())


def test_undecodable_images_are_all_named(tmp_path: Path) -> None:
    """All of them are named across shards; complete shards are cached."""
    (tmp_path / "images").mkdir()
    dataset = streamed_dataset(tmp_path / "images")
    good = {}
    for i in (SHARD + 3, 2 * SHARD + 40):
        path = tmp_path / "images" / f"train{i}.png"
        good[path] = path.read_bytes()
        path.write_bytes(b"not an image")
    threads = torch.get_num_threads()
    with pytest.raises(DatasetError, match="2 images of train cannot be decoded") as caught:
        extract_features(SlowEncoder(), dataset, VIEWS, tmp_path / "cache")
    assert all(str(path) in str(caught.value) for path in good)
    assert torch.get_num_threads() == threads
    assert len(shard_files(tmp_path / "cache")) == 1
    for path, content in good.items():
        path.write_bytes(content)
    encoder = SlowEncoder()
    extract_features(encoder, dataset, VIEWS, tmp_path / "cache")
    assert encoder.encoded == (SHARD + 45) * 4 + REST


def test_unwritable_cache_only_causes_warnings(
    streamed: ImageDataset, plain: FeatureSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Features come from memory; later shards are not written."""
    (tmp_path / "file").write_text("x")
    with caplog.at_level(logging.WARNING):
        result = extract_features(SlowEncoder(), streamed, VIEWS, tmp_path / "file")
    assert digest(result) == digest(plain)
    assert not result.train.flags.writeable
    assert len([r for r in caplog.records if "cannot be cached" in r.message]) == 3


def test_damaged_and_swapped_shards_are_encoded_again(
    streamed: ImageDataset, plain: FeatureSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A flipped bit and a shard of another name are each one line."""
    interrupted(streamed, tmp_path, (2 * SHARD + 10) * 4)
    first, second = shard_files(tmp_path)
    content = bytearray(first.read_bytes())
    second.write_bytes(content)
    content[-5] ^= 4
    first.write_bytes(content)
    encoder = SlowEncoder()
    assert digest(extract_features(encoder, streamed, VIEWS, tmp_path)) == digest(plain)
    assert encoder.encoded == SIZES["train"] * 4 + REST
    assert [
        str(file) in record.getMessage()
        for file, record in zip((first, second), caplog.records, strict=True)
    ] == [True] * 2


@pytest.mark.faults
def test_two_processes_can_extract_the_same_split(plain: FeatureSet, tmp_path: Path) -> None:
    """Both return the same features."""
    for other in (0.0, 0.01):
        cache = tmp_path / str(other)
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.ship.features.encoders", str(cache), str(seconds)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for seconds in (0.0, other)
        ]
        for process in processes:
            out, error = process.communicate(timeout=120)
            assert (out.strip(), error) == (digest(plain), "")
        assert sorted(shard_files(cache)) == sorted(cache.iterdir())
