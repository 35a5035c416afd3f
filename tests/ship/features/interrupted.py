"""Extractions that are stopped in the middle, and what they leave."""

from pathlib import Path

import pytest

from ship.datasets import PictureDataset
from ship.features.feature_set import extract_features
from tests.ship.streamed import VIEWS, SlowEncoder


def interrupted(dataset: PictureDataset, cache: Path, after: int) -> None:
    """Extract until `after` views are done, as Ctrl-C would."""

    def stop(done: int, total: int) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(SlowEncoder(), dataset, VIEWS, cache, stop)


def shard_files(cache: Path) -> list[Path]:
    """The shards that are kept, in the order of their pictures."""
    return sorted(
        cache.glob("*.safetensors"), key=lambda file: int(file.name.split(".")[-2].split("-")[0])
    )
