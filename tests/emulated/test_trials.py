"""Every method trains on the device as it does on the CPU, and goes on there from a checkpoint."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ship.clip import FrozenCLIP, Precision
from ship.features import FeatureSet
from ship.metrics import EpochMetrics
from ship.training import Checkpoint
from ship.trial import load_trained, run_trial
from ship.trial_config import TrialConfig
from tests.emulated import EmulatedDevice
from tests.emulated.cases import fused, methods, protocols, trial, variants
from tests.ship.conftest import build_clip

SEEDS = (7, 2)
# The device may take another way through the text tower and other kernels of an optimizer, so that
# sums are rounded otherwise: of two epochs in float32 nothing else may be left.
RELATIVE, ABSOLUTE = 2e-4, 2e-6


def run(
    config: TrialConfig | list[TrialConfig],
    clip: FrozenCLIP,
    features: FeatureSet,
    seeds: Sequence[int] = SEEDS,
    stop: int | None = None,
) -> tuple[list[EpochMetrics], Checkpoint | None]:
    """All that a trial reports, and its checkpoint behind the item of that number.

    A checkpoint is read from its bytes, as a worker reads it.
    """
    names = (config[0] if isinstance(config, list) else config).targets
    targets = dict.fromkeys(names, features)
    running = run_trial(config, seeds, features, clip, targets)
    items, data = [], None
    for place, item in enumerate(running):
        items.append(item)
        if place == stop:
            checkpoint = running.checkpoint()
            assert checkpoint is not None
            data = checkpoint.to_bytes()
    if data is None:
        return items, None
    return items, Checkpoint.from_bytes(data)


def assert_alike(host: Sequence[EpochMetrics], device: Sequence[EpochMetrics]) -> None:
    """The same epochs with the same numbers, but for rounding."""
    assert [(item.stage, item.epoch) for item in host] == [(x.stage, x.epoch) for x in device]
    for one, other in zip(host, device, strict=True):
        assert one.per_replica.keys() == other.per_replica.keys()
        for name, values in one.per_replica.items():
            for value, found in zip(values, other.per_replica[name], strict=True):
                where = f"{one.stage} {one.epoch} {name}: {value} on the CPU, {found} on the device"
                assert math.isclose(value, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE), where


def check(
    config: TrialConfig | list[TrialConfig],
    clips: tuple[FrozenCLIP, FrozenCLIP],
    features: FeatureSet,
    seeds: Sequence[int] = SEEDS,
    *,
    resumed: bool = True,
) -> None:
    """A trial on the CPU and on the device; there also one that stops half-way and goes on."""
    host, _ = run(config, clips[0], features, seeds)
    stop = (len(host) - 1) // 2 if resumed and len(host) > 1 else None
    found, checkpoint = run(config, clips[1], features, seeds, stop)
    assert_alike(host, found)
    if checkpoint is not None:
        names = (config[0] if isinstance(config, list) else config).targets
        targets = dict.fromkeys(names, features)
        again = run_trial(config, seeds, features, clips[1], targets, resume=checkpoint)
        assert list(again) == found


@pytest.fixture
def clips(host_clip: FrozenCLIP, device_clip: FrozenCLIP) -> tuple[FrozenCLIP, FrozenCLIP]:
    """The backbone on the CPU, and on the device."""
    return host_clip, device_clip


@pytest.mark.parametrize("settings", list(methods()), ids=str)
def test_every_method(
    settings: dict[str, Any], clips: tuple[FrozenCLIP, FrozenCLIP], features: FeatureSet
) -> None:
    """Generators with CoOp, fine-tuners with SHIP's generator."""
    check(trial(**settings), clips, features)


@pytest.mark.parametrize("settings", list(variants()), ids=str)
def test_every_choice_of_a_method(
    settings: dict[str, Any], clips: tuple[FrozenCLIP, FrozenCLIP], features: FeatureSet
) -> None:
    """Kinds of prompts, places of the name, searches at inference, schedules."""
    check(trial(**settings), clips, features, resumed=False)


def asked(settings: dict[str, Any]) -> str:
    """A protocol and a selection."""
    return f"{settings['protocol']}, {settings['selection']}"


@pytest.mark.parametrize("settings", list(protocols()), ids=asked)
def test_every_protocol_and_selection(
    settings: dict[str, Any], clips: tuple[FrozenCLIP, FrozenCLIP], features: FeatureSet
) -> None:
    """But for those that refuse each other, which say so on the device, too."""
    config = trial(**settings)
    try:
        check(config, clips, features)
    except ValueError as refusal:
        with pytest.raises(ValueError, match=str(refusal)):
            run(config, clips[1], features)


def named(settings: list[TrialConfig]) -> str:
    """A generator and a fine-tuner."""
    return f"{settings[0].generator.name}+{settings[0].finetuner.name}"


@pytest.mark.parametrize("settings", list(fused()), ids=named)
def test_settings_that_are_trained_side_by_side(
    settings: list[TrialConfig], clips: tuple[FrozenCLIP, FrozenCLIP], features: FeatureSet
) -> None:
    """Each replica with its own factors and learning rates."""
    check(settings, clips, features, (7, 7))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(
    precision: Precision, device: EmulatedDevice, host_clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Losses are within 5% of those in single precision."""
    config = trial(selection="none")
    clip = build_clip(layers=2, device=device.name, precision=precision)
    found, _ = run(config.model_copy(update={"precision": precision}), clip, features)
    plain, _ = run(config, host_clip, features)
    assert [(item.stage, item.epoch) for item in found] == [(x.stage, x.epoch) for x in plain]
    for one, other in zip(found, plain, strict=True):
        for name in ("loss", "reconstruction"):
            if name in one.per_replica:
                assert one.per_replica[name] == pytest.approx(other.per_replica[name], rel=0.05)


@pytest.mark.parametrize("settings", list(methods()), ids=str)
def test_what_is_kept_is_the_same_there(
    tmp_path: Path,
    settings: dict[str, Any],
    clips: tuple[FrozenCLIP, FrozenCLIP],
    features: FeatureSet,
) -> None:
    """Trained on the device, it answers on either; its generator makes the same features."""
    config = trial(**{"selection": "none", **settings})
    running = run_trial(config, [3], features, clips[1], keep=True)
    list(running)
    assert running.trained is not None
    for name, content in running.trained.files([0]).items():
        (tmp_path / name).write_bytes(content)
    host, there = (load_trained(tmp_path, clip=clip) for clip in clips)
    pictures = torch.from_numpy(features.test.copy())
    pairs = [(host.logits(pictures), there.logits(pictures))]
    if config.generator.name not in ("none", "real"):
        pairs.append((host.features(per_class=2)[0], there.features(per_class=2)[0]))
    for one, other in pairs:
        assert other.device.type == clips[1].device.type
        torch.testing.assert_close(one, other.cpu(), rtol=RELATIVE, atol=1e-5)
