"""Every method trains on the device as it does on the CPU, and goes on there from a checkpoint."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from ship.clip import FrozenCLIP
from ship.features import FeatureSet
from ship.metrics import EpochMetrics
from ship.training import Checkpoint
from ship.trial import run_trial
from ship.trial_config import TrialConfig
from tests.emulated.cases import methods, protocols, trial, variants

SEEDS = (7, 2)
# The device may take another way through the text tower and other kernels of an optimizer, so that
# sums are rounded otherwise: of two epochs in float32 nothing else may be left.
RELATIVE, ABSOLUTE = 2e-4, 2e-6


def run(
    config: TrialConfig,
    clip: FrozenCLIP,
    features: FeatureSet,
    stop: int | None = None,
) -> tuple[list[EpochMetrics], Checkpoint | None]:
    """All that a trial reports, and its checkpoint behind the item of that number.

    A checkpoint is read from its bytes, as a worker reads it.
    """
    targets = dict.fromkeys(config.targets, features)
    running = run_trial(config, SEEDS, features, clip, targets)
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
    config: TrialConfig,
    clips: tuple[FrozenCLIP, FrozenCLIP],
    features: FeatureSet,
    *,
    resumed: bool = True,
) -> None:
    """A trial on the CPU and on the device; there also one that stops half-way and goes on."""
    host, _ = run(config, clips[0], features)
    stop = (len(host) - 1) // 2 if resumed and len(host) > 1 else None
    found, checkpoint = run(config, clips[1], features, stop)
    assert_alike(host, found)
    if checkpoint is not None:
        targets = dict.fromkeys(config.targets, features)
        again = run_trial(config, SEEDS, features, clips[1], targets, resume=checkpoint)
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
