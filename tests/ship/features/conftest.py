"""A dataset of three shards, and its features from an undisturbed extraction."""

import pytest

from ship.datasets import ImageDataset
from ship.features import extract_features
from ship.subsets import FeatureSet
from tests.ship.features.encoders import VIEWS, SlowEncoder, streamed_dataset


@pytest.fixture(scope="session")
def streamed() -> ImageDataset:
    """Three shards of training images."""
    return streamed_dataset()


@pytest.fixture(scope="session")
def plain(streamed: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    """Features of an undisturbed extraction."""
    return extract_features(SlowEncoder(), streamed, VIEWS, tmp_path_factory.mktemp("plain"))
