"""Pictures are encoded on the device, by several threads at once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ship.clip import FrozenCLIP
from ship.datasets import Picture, PictureDataset, Split
from ship.datasets.content import content_fingerprint, picture_hashes
from ship.features import extract_features
from ship.features.encode import Layout
from tests.emulated import EmulatedDevice
from tests.ship.datasets.conftest import save_picture

SIZES = {"train": 70, "val": 3, "test": 5}


@pytest.fixture
def dataset(tmp_path: Path) -> PictureDataset:
    """Noise in three splits, in training more of it than one batch has."""
    splits = {}
    for split, n in SIZES.items():
        paths = [tmp_path / "pictures" / f"{split}{i}.png" for i in range(n)]
        for i, path in enumerate(paths):
            save_picture(path, seed=i, size=(20, 24))
        pictures = tuple(Picture(path.name, path) for path in paths)
        splits[split] = Split(pictures, np.arange(n, dtype=np.int64) % 2)
    names, template = ("a", "b"), "a photo of a {}."
    fingerprint = content_fingerprint(names, template, splits, picture_hashes(splits))
    return PictureDataset("noise", names, template, splits, fingerprint)


def test_extraction_gives_the_cpus_features(
    tmp_path: Path,
    dataset: PictureDataset,
    device: EmulatedDevice,
    host_clip: FrozenCLIP,
    device_clip: FrozenCLIP,
) -> None:
    """Views too. The host waits twice for each batch: pictures in, features out."""
    host = extract_features(host_clip, dataset, 1, tmp_path / "host")
    with device.counting() as counts:
        found = extract_features(device_clip, dataset, 1, tmp_path / "device")
    for split in SIZES:
        one, other = getattr(host, split), getattr(found, split)
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-6)
    per_batch = Layout.for_device(torch.device(device.name)).views_per_batch
    batches = -(-2 * SIZES["train"] // per_batch) + 2
    assert counts.n_syncs == 2 * batches
    assert counts.sent == 4 * 3 * 32 * 32 * (2 * SIZES["train"] + SIZES["val"] + SIZES["test"])
