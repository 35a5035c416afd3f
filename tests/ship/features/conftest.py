"""Fixtures: a dataset whose features have several shards, and the expected features."""

import pytest

from ship.datasets import ImageDataset
from ship.features import extract_features
from ship.subsets import FeatureSet
from tests.ship.features.encoders import VIEWS, SlowEncoder, make_sharded_dataset


@pytest.fixture(scope="session")
def sharded_dataset() -> ImageDataset:
    """Return a dataset with three shards of training images."""
    return make_sharded_dataset()


@pytest.fixture(scope="session")
def expected_features(
    sharded_dataset: ImageDataset, tmp_path_factory: pytest.TempPathFactory
) -> FeatureSet:
    """Return the features of an extraction without interruptions and faults."""
    return extract_features(
        SlowEncoder(), sharded_dataset, VIEWS, tmp_path_factory.mktemp("expected_features")
    )
