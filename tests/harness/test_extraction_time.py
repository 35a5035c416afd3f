"""How long an extraction would take: what the cache lacks, at the pace of a sample."""

from pathlib import Path

import pytest

from harness import method
from harness.method import extraction_seconds
from ship.features import extract_features
from tests.ship.streamed import SHARD, SIZES, VIEWS, SlowEncoder, interrupted, streamed_dataset

SECONDS = 2.0  # a picture with its views


def test_pictures_that_the_cache_lacks_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them at first, then those of splits and shards that are not there, then none."""
    monkeypatch.setattr(method, "_seconds_a_picture", lambda *_: SECONDS)
    clip, dataset = SlowEncoder(), streamed_dataset()
    whole = sum(SIZES.values())
    assert extraction_seconds(clip, dataset, VIEWS, tmp_path) == SECONDS * whole
    assert extraction_seconds(clip, dataset, VIEWS, tmp_path, ("test",)) == SECONDS * SIZES["test"]
    interrupted(dataset, tmp_path, SHARD * (1 + VIEWS) + 1)
    assert extraction_seconds(clip, dataset, VIEWS, tmp_path) == SECONDS * (whole - SHARD)
    extract_features(clip, dataset, VIEWS, tmp_path)
    assert extraction_seconds(clip, dataset, VIEWS, tmp_path) == 0
    assert extraction_seconds(clip, dataset, VIEWS + 1, tmp_path) == SECONDS * SIZES["train"]


def test_a_sample_is_encoded_and_not_kept(tmp_path: Path) -> None:
    """Of the split's own pictures and views; more of them where there is more time."""
    encoded = []
    for budget in (0.0, 60.0):
        clip = SlowEncoder()
        dataset = streamed_dataset()
        found = extraction_seconds(clip, dataset, VIEWS, tmp_path, ("train",), budget)
        assert found > 0
        encoded.append(clip.encoded)
    assert encoded[0] < encoded[1] == SIZES["train"] * (1 + VIEWS)
    assert not list(tmp_path.iterdir())
