"""Fixtures for tests that run on the CPU, and on a CUDA GPU if there is one."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.device import find_gpu_fault
from ship.clip import FrozenCLIP
from ship.datasets import ImageDataset, Split, load_dataset
from ship.features import extract_features
from ship.subsets import FeatureSet
from tests.harness.conftest import bench as bench
from tests.harness.conftest import empty_store as empty_store
from tests.harness.conftest import uri as uri
from tests.ship.conftest import build_clip, build_features
from tests.ship.conftest import clip as clip
from tests.ship.conftest import clip64 as clip64

# torch's deterministic mode requires this variable for matrix products. cuBLAS reads it when CUDA
# is initialized.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# Number of photos per class in each split.
PHOTOS = {"train": 2, "val": 1, "test": 2}
CLASSES = 8


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Show warnings in GPU tests instead of failing, because they depend on the machine."""
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.filterwarnings("default"))


def require_cuda() -> str:
    """Return "cuda", or skip the test with the reason why torch cannot use a GPU."""
    if not torch.cuda.is_available():
        pytest.skip(f"needs a CUDA GPU: {find_gpu_fault()}")
    if "tests.emulated.device" in sys.modules:
        pytest.fail("the emulated device pins memory in CUDA's place: run pytest -m gpu tests/gpu")
    return "cuda"


CPU = pytest.param("cpu", marks=pytest.mark.slow)  # so that CI, which has no GPU, runs the tests
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(params=[CPU, CUDA])
def device(request: pytest.FixtureRequest) -> str:
    """Name of the device: "cpu" or "cuda"."""
    return require_cuda() if request.param == "cuda" else str(request.param)


@pytest.fixture
def cuda() -> str:
    """Name of the GPU's device, for tests that cannot run on a CPU."""
    return require_cuda()


@pytest.fixture(scope="session")
def clips() -> Callable[..., FrozenCLIP]:
    """Function that builds a tiny CLIP, once for each set of arguments."""
    clips_by_settings: dict[Any, FrozenCLIP] = {}

    def get_clip(**settings: Any) -> FrozenCLIP:
        key = tuple(sorted(settings.items()))
        if key not in clips_by_settings:
            clips_by_settings[key] = build_clip(**settings)
        return clips_by_settings[key]

    return get_clip


@pytest.fixture(scope="session")
def features(clip: FrozenCLIP) -> FeatureSet:
    """Features of the tiny dataset."""
    return build_features(clip)


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw normal numbers in float32 for all types, because torch draws others in float64."""
    randn = torch.randn

    def draw_float32(*shape: Any, dtype: torch.dtype | None = None, **rest: Any) -> torch.Tensor:
        return randn(*shape, dtype=torch.float32, **rest).to(dtype or torch.float32)

    monkeypatch.setattr(torch, "randn", draw_float32)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Make torch refuse operations without a deterministic kernel."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def select_images(split: Split, n: int) -> Split:
    """Return the first n images of each of the first CLASSES classes."""
    labels = np.asarray(split.labels)
    rows = np.concatenate([np.flatnonzero(labels == label)[:n] for label in range(CLASSES)])
    return Split(tuple(split.images[row] for row in rows), labels[rows])


@pytest.fixture(scope="session")
def photos() -> ImageDataset:
    """Dataset of a few photos of the first classes."""
    return load_few_photos()


def load_few_photos() -> ImageDataset:
    """Return a few photos of the first classes."""
    whole = load_dataset("photos")
    splits = {name: select_images(whole.splits[name], n) for name, n in PHOTOS.items()}
    return replace(whole, splits=splits, class_names=whole.class_names[:CLASSES])


@pytest.fixture(scope="session")
def pocket() -> Callable[[str], FrozenCLIP]:
    """Function that returns the packaged backbone on a device."""
    clips_by_device: dict[str, FrozenCLIP] = {}

    def get_clip(device: str) -> FrozenCLIP:
        if device not in clips_by_device:
            clips_by_device[device] = FrozenCLIP.load("pocket", device=device)
        return clips_by_device[device]

    return get_clip


@pytest.fixture(scope="session")
def photo_features(
    photos: ImageDataset,
    pocket: Callable[[str], FrozenCLIP],
    tmp_path_factory: pytest.TempPathFactory,
) -> FeatureSet:
    """Features of the photos, extracted on the CPU."""
    folder: Path = tmp_path_factory.mktemp("features")
    return extract_features(pocket("cpu"), photos, 1, folder)
