"""Trials on the device: every method has the results of the CPU, and resumes from a checkpoint.

Trials are created from ship's registries, so that new methods are covered without a change here.
trials.yaml has small values for settings of these names, and each other choice of a setting has a
trial. Images are encoded on the device by several threads, too.
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
from ship.protocol_rules import PROTOCOLS
from ship.state import Checkpoint
from ship.subsets import FeatureSet
from ship.trial import run_trial
from ship.trial_config import EpochMetrics, Selection, SyntheticConfig, TrialConfig
from tests.case_files import load_cases, mark_slow_cases
from tests.emulated import EmulatedDevice

SEEDS = (7, 2)
REGISTRIES: Final[Mapping[str, Mapping[str, type[Any]]]] = {
    "generator": GENERATORS,
    "finetuner": FINETUNERS,
}
CASES: Final = load_cases(__file__, "trials.yaml")


def make_settings(group: str, name: str, **settings: Any) -> dict[str, Any]:
    """Return a method's settings, with small values that make a trial fast.

    Args:
        group: Key of REGISTRIES.
        name: Name of the method.
        **settings: Further settings.
    """
    fields = REGISTRIES[group][name].model_fields
    small = {key: value for key, value in CASES["small"].items() if key in fields}
    return {"name": name, **small, **settings}


def list_methods() -> Iterator[dict[str, Any]]:
    """Yield a trial of SHIP's VAE with CoOp, and of each method combined with a fast one."""
    vae, coop = make_settings("generator", "vae"), make_settings("finetuner", "coop")
    yield {"generator": vae, "finetuner": coop}
    linear_probe = make_settings("finetuner", "linear_probe")
    for name in GENERATORS:
        yield {"generator": make_settings("generator", name), "finetuner": linear_probe}
    gaussian = make_settings("generator", "gaussian_text")
    for name in FINETUNERS:
        finetuner = make_settings("finetuner", name)
        yield {"generator": gaussian, "quality": False, "finetuner": finetuner}


def list_options() -> Iterator[dict[str, Any]]:
    """Yield a trial for each set of settings of vary_settings, for each method and `synthetic`."""
    for group, registry in REGISTRIES.items():
        for name, config in registry.items():
            for settings in vary_settings(config):
                yield {**CASES["quick"], group: make_settings(group, name, **settings)}
    coop = make_settings("finetuner", "coop")
    for settings in vary_settings(SyntheticConfig):
        yield {**CASES["quick"], "finetuner": coop, "synthetic": settings}


def vary_settings(config: type[Any]) -> Iterator[dict[str, Any]]:
    """Yield each choice that is not a default, and the settings that enable other options."""
    for field, info in config.model_fields.items():
        choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
        choices = (True, False) if info.annotation is bool else choices
        if field != "name":
            yield from ({field: choice} for choice in choices if choice != info.default)
    fields = config.model_fields
    if enabled := {key: value for key, value in CASES["enabled"].items() if key in fields}:
        yield enabled


def list_protocols() -> Iterator[dict[str, Any]]:
    """Yield each protocol, and each selection with the default protocol, with fast methods."""
    quick = {
        "generator": make_settings("generator", "mlp_vae"),
        "finetuner": make_settings("finetuner", "linear_probe"),
    }
    for protocol in PROTOCOLS:
        targets = {"targets": ("first", "second")} if protocol == "cross_dataset" else {}
        selection = "base_val" if protocol == "few_shot" else "pseudo_new"
        yield {**quick, "protocol": protocol, "selection": selection, **targets}
    yield from ({**quick, "selection": rule} for rule in get_args(Selection)[1:])


def collect_numbers(items: Sequence[EpochMetrics]) -> dict[tuple[Any, ...], float]:
    """Return all reported numbers of a trial by stage, epoch, name and index of the seed."""
    return {
        (item.stage, item.epoch, name, index): value
        for item in items
        for name, values in item.per_seed.items()
        for index, value in enumerate(values)
    }


TRIALS = [*list_methods(), *list_options(), *list_protocols()]


@pytest.mark.parametrize("settings", mark_slow_cases(TRIALS, TRIALS[::9]), ids=str)
def test_trial_on_the_device_equals_the_cpu(
    settings: dict[str, Any], host_clip: FrozenCLIP, device_clip: FrozenCLIP, features: FeatureSet
) -> None:
    """If it resumes from a checkpoint, its results are the same."""
    defaults = {
        "generator": make_settings("generator", "vae"),
        "finetuner": make_settings("finetuner", "coop"),
    }
    config = TrialConfig(**{"shots": 2, **defaults, **settings})
    targets = dict.fromkeys(config.targets, features)
    host = list(run_trial(config, SEEDS, features, host_clip, targets))
    running = run_trial(config, SEEDS, features, device_clip, targets)
    device, checkpoint = [], None
    for item in running:
        device.append(item)
        if config.selection != "none" and len(device) == (len(host) + 1) // 2 < len(host):
            checkpoint = running.checkpoint()
            assert checkpoint is not None
    # On the device, the text encoder and the optimizers may use other kernels, which round sums
    # differently. The tolerance is for two epochs in float32.
    assert collect_numbers(device) == pytest.approx(collect_numbers(host), rel=2e-4, abs=2e-6)
    if checkpoint is not None:
        resume = Checkpoint.from_bytes(checkpoint.to_bytes())
        resumed = run_trial(config, SEEDS, features, device_clip, targets, resume=resume)
        assert list(resumed) == device


SIZES = {"train": 70, "val": 3, "test": 5}  # more training images than in one batch


def test_extraction_on_the_device_equals_the_cpu(
    tmp_path: Path, device: EmulatedDevice, host_clip: FrozenCLIP, device_clip: FrozenCLIP
) -> None:
    """Augmented views are extracted, too. The host waits twice per batch."""
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
        expected, actual = getattr(host, split), getattr(features, split)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
    per_batch = Parallelism.for_device(torch.device(device.name)).views_per_batch
    batches = -(-2 * SIZES["train"] // per_batch) + 2
    assert counts.n_syncs == 2 * batches
    assert counts.sent == 4 * 3 * 32 * 32 * (2 * SIZES["train"] + SIZES["val"] + SIZES["test"])
