"""Stores for the tests of the reports."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reports.builder import StoreBuilder, prompt_len, scores


@pytest.fixture
def build() -> type[StoreBuilder]:
    """The builder's class."""
    return StoreBuilder


@pytest.fixture
def packaged() -> Callable[..., StoreBuilder]:
    """Makes the packaged study."""
    return prompt_len


@pytest.fixture
def percentages() -> Callable[..., dict[str, float]]:
    """The six metrics of a new (and base) accuracy."""
    return scores


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow sqlite file with its schema: making one takes seconds, copying it none."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store_uri(empty_store: Path, tmp_path: Path) -> str:
    """The URI of a store of the test's own."""
    copy = tmp_path / "mlflow.db"
    shutil.copy(empty_store, copy)
    return f"sqlite:///{copy}"
