"""Pictures are encoded on the device, by several threads at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ship.clip import FrozenCLIP
from ship.datasets import Split, load_dataset
from ship.features import extract_features
from ship.features.encode import Layout
from tests.emulated import EmulatedDevice

SIZES = {"train": 70, "val": 3, "test": 5}  # in training more than one batch has


def test_extraction_gives_the_cpus_features(
    tmp_path: Path, device: EmulatedDevice, host_clip: FrozenCLIP, device_clip: FrozenCLIP
) -> None:
    """Views too. The host waits twice for each batch: pictures in, features out."""
    whole = load_dataset("emoji")
    few = {
        name: Split(split.pictures[: SIZES[name]], split.labels[: SIZES[name]])
        for name, split in whole.splits.items()
    }
    dataset = replace(whole, splits=few)
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
