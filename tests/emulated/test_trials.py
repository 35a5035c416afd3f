"""Every method trains on the device as on the CPU, and resumes from a checkpoint.

Trials are created from ship's registries, so that new methods are covered without a change here:
sizes are made small by the names of settings, and each choice and switch gets a trial. Images are
also encoded on the device, by several threads.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import numpy as np
import pytest
import torch

from ship.clip import FrozenCLIP
from ship.datasets import Split, load_dataset
from ship.features import extract_features
from ship.features.encode import Parallelism
from ship.finetuners import FINETUNERS
from ship.generators import GENERATORS
from ship.requirements import PROTOCOLS
from ship.state import Checkpoint
from ship.subsets import FeatureSet
from ship.trial import run_trial
from ship.trial_config import EpochMetrics, Selection, SyntheticConfig, TrialConfig
from tests.case_files import load_cases, mark_slow_cases
from tests.emulated import EmulatedDevice

SEEDS = (7, 2)
TABLES: Final[Mapping[str, Mapping[str, type[Any]]]] = {
    "generator": GENERATORS,
    "finetuner": FINETUNERS,
}
CASES: Final = load_cases(__file__, "trials.yaml")


def small(group: str, name: str, **settings: Any) -> dict[str, Any]:
    """Return a method's settings with sizes that make a trial fast."""
    fields = TABLES[group][name].model_fields
    return {"name": name, **{k: v for k, v in CASES["small"].items() if k in fields}, **settings}


def methods() -> Iterator[dict[str, Any]]:
    """SHIP's generator with CoOp; every other method with a fast one."""
    ship, coop = small("generator", "vae"), small("finetuner", "coop")
    yield {"generator": ship, "finetuner": coop}
    probe, gaussian = small("finetuner", "linear_probe"), small("generator", "gaussian_text")
    yield from ({"generator": small("generator", name), "finetuner": probe} for name in GENERATORS)
    known = {"generator": gaussian, "quality": False}
    yield from ({**known, "finetuner": small("finetuner", name)} for name in FINETUNERS)


def inference_grid() -> Iterator[dict[str, Any]]:
    """Return each choice of a method's settings, and all of its switches at once."""
    for group, table in TABLES.items():
        for name, config in table.items():
            for settings in varied(config):
                yield {**CASES["quick"], group: small(group, name, **settings)}
    for settings in varied(SyntheticConfig):
        yield {**CASES["quick"], "finetuner": small("finetuner", "coop"), "synthetic": settings}


def varied(config: type[Any]) -> Iterator[dict[str, Any]]:
    """Return settings with one other choice each, and with all switches on."""
    for field, info in config.model_fields.items():
        offered = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
        offered = (True, False) if info.annotation is bool else offered
        if field != "name":
            yield from ({field: choice} for choice in offered if choice != info.default)
    if switched := {k: v for k, v in CASES["switched"].items() if k in config.model_fields}:
        yield switched


def protocols() -> Iterator[dict[str, Any]]:
    """Return each protocol, and each selection under the first one, with fast methods."""
    quick = {
        "generator": small("generator", "mlp_vae"),
        "finetuner": small("finetuner", "linear_probe"),
    }
    for protocol in PROTOCOLS:
        targets = {"targets": ("here", "there")} if protocol == "cross_dataset" else {}
        selection = "base_val" if protocol == "few_shot" else "pseudo_new"
        yield {**quick, "protocol": protocol, "selection": selection, **targets}
    yield from ({**quick, "selection": rule} for rule in get_args(Selection)[1:])


def numbers(items: Sequence[EpochMetrics]) -> dict[tuple[Any, ...], float]:
    """Return all reported numbers of a trial."""
    return {
        (item.stage, item.epoch, name, place): value
        for item in items
        for name, values in item.per_seed.items()
        for place, value in enumerate(values)
    }


TRIALS = [*methods(), *inference_grid(), *protocols()]


@pytest.mark.parametrize("settings", mark_slow_cases(TRIALS, TRIALS[::9]), ids=str)
def test_trial_on_the_device_equals_the_cpu(
    settings: dict[str, Any], host_clip: FrozenCLIP, device_clip: FrozenCLIP, features: FeatureSet
) -> None:
    """A resumed trial is equal, too."""
    defaults = {"generator": small("generator", "vae"), "finetuner": small("finetuner", "coop")}
    config = TrialConfig(**{"shots": 2, **defaults, **settings})
    targets = dict.fromkeys(config.targets, features)
    host = list(run_trial(config, SEEDS, features, host_clip, targets))
    running = run_trial(config, SEEDS, features, device_clip, targets)
    device, memory = [], None
    for item in running:
        device.append(item)
        if config.selection != "none" and len(device) == (len(host) + 1) // 2 < len(host):
            memory = running.checkpoint()
            assert memory is not None
    # The device may take another way through the text tower and other kernels of an optimizer, so
    # that sums are rounded otherwise: of two epochs in float32 nothing else may be left.
    assert numbers(device) == pytest.approx(numbers(host), rel=2e-4, abs=2e-6)
    if memory is not None:
        resume = Checkpoint.from_bytes(memory.to_bytes())
        again = run_trial(config, SEEDS, features, device_clip, targets, resume=resume)
        assert list(again) == device


SIZES = {"train": 70, "val": 3, "test": 5}  # in training more than one batch has


def test_extraction_on_the_device_equals_the_cpu(
    tmp_path: Path, device: EmulatedDevice, host_clip: FrozenCLIP, device_clip: FrozenCLIP
) -> None:
    """Views are included; the host waits twice per batch."""
    whole = load_dataset("emoji")
    few = {
        name: Split(split.images[: SIZES[name]], split.labels[: SIZES[name]])
        for name, split in whole.splits.items()
    }
    dataset = replace(whole, splits=few)
    host = extract_features(host_clip, dataset, 1, tmp_path / "host")
    with device.counting() as counts:
        features = extract_features(device_clip, dataset, 1, tmp_path / "device")
    for split in SIZES:
        host_images, other = getattr(host, split), getattr(features, split)
        np.testing.assert_allclose(other, host_images, rtol=0, atol=1e-6)
    per_batch = Parallelism.for_device(torch.device(device.name)).views_per_batch
    batches = -(-2 * SIZES["train"] // per_batch) + 2
    assert counts.n_syncs == 2 * batches
    assert counts.sent == 4 * 3 * 32 * 32 * (2 * SIZES["train"] + SIZES["val"] + SIZES["test"])
