"""The device of each test: the CPU everywhere, and a CUDA GPU where there is one."""

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

# cuBLAS reads it when CUDA starts; without it torch refuses deterministic products
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# Images per class of the photos that are encoded.
PHOTOS = {"train": 2, "val": 1, "test": 2}
CLASSES = 8


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Show the warnings of CUDA's libraries instead of failing: they depend on the machine."""
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


CPU = pytest.param("cpu", marks=pytest.mark.slow)  # CI shows that the tests themselves work
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(params=[CPU, CUDA])
def device(request: pytest.FixtureRequest) -> str:
    """Each device in turn."""
    return require_cuda() if request.param == "cuda" else str(request.param)


@pytest.fixture
def cuda() -> str:
    """The GPU, for tests that have no meaning on a CPU."""
    return require_cuda()


@pytest.fixture(scope="session")
def clips() -> Callable[..., FrozenCLIP]:
    """Build the tiny CLIP, once for each set of arguments."""
    known: dict[Any, FrozenCLIP] = {}

    def build(**settings: Any) -> FrozenCLIP:
        key = tuple(sorted(settings.items()))
        if key not in known:
            known[key] = build_clip(**settings)
        return known[key]

    return build


@pytest.fixture(scope="session")
def features(clip: FrozenCLIP) -> FeatureSet:
    """Features of the tiny dataset."""
    return build_features(clip)


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the same normal numbers in float64 as in float32, which torch does not."""
    draw = torch.randn

    def drawn(*shape: Any, dtype: torch.dtype | None = None, **rest: Any) -> torch.Tensor:
        return draw(*shape, dtype=torch.float32, **rest).to(dtype or torch.float32)

    monkeypatch.setattr(torch, "randn", drawn)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Have torch refuse every operation that has no deterministic kernel."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def few(split: Split, n: int) -> Split:
    """Return the first n images of each of the first classes."""
    labels = np.asarray(split.labels)
    rows = np.concatenate([np.flatnonzero(labels == label)[:n] for label in range(CLASSES)])
    return Split(tuple(split.images[row] for row in rows), labels[rows])


@pytest.fixture(scope="session")
def photos() -> ImageDataset:
    """A few photos of the first classes."""
    return few_photos()


def few_photos() -> ImageDataset:
    """Return a few photos of the first classes."""
    whole = load_dataset("photos")
    splits = {name: few(whole.splits[name], n) for name, n in PHOTOS.items()}
    return replace(whole, splits=splits, class_names=whole.class_names[:CLASSES])


@pytest.fixture(scope="session")
def pocket() -> Callable[[str], FrozenCLIP]:
    """Load the packaged backbone, once for each device."""
    known: dict[str, FrozenCLIP] = {}

    def load(device: str) -> FrozenCLIP:
        if device not in known:
            known[device] = FrozenCLIP.load("pocket", device=device)
        return known[device]

    return load


@pytest.fixture(scope="session")
def photo_features(
    photos: ImageDataset,
    pocket: Callable[[str], FrozenCLIP],
    tmp_path_factory: pytest.TempPathFactory,
) -> FeatureSet:
    """Features of these photos, encoded on the CPU."""
    folder: Path = tmp_path_factory.mktemp("features")
    return extract_features(pocket("cpu"), photos, 1, folder)
