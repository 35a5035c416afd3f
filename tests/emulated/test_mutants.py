"""Mistakes that a CPU forgives, made on purpose: on the emulated device each of them is found.

What test_trials.py shows is worth as much as the faults that it would catch.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from ship.clip import FrozenCLIP
from ship.features import FeatureSet
from ship.generators.vae import VAE
from ship.training import Checkpoint, ReplicaOptimizer, ReplicaRng
from ship.trial import run_trial
from tests.emulated import EmulatedDevice, MixedDevicesError
from tests.emulated.cases import trial

SEEDS = (7, 2)
Patch = Callable[[pytest.MonkeyPatch], None]


def changed(owner: Any, name: str, change: Callable[[Any], Any]) -> Patch:
    """A function whose result is changed."""
    real = getattr(owner, name)

    def other(*args: Any, **kwargs: Any) -> Any:
        return change(real(*args, **kwargs))

    return lambda patch: patch.setattr(owner, name, other)


def noise_stays_on_the_host(patch: pytest.MonkeyPatch) -> None:
    """A draw that nobody moves."""
    changed(ReplicaRng, "normal", Tensor.cpu)(patch)


def masks_are_made_on_the_host(patch: pytest.MonkeyPatch) -> None:
    """torch.ones without a device."""
    real = F.scaled_dot_product_attention

    def attention(*parts: Tensor, attn_mask: Tensor | None = None, **settings: Any) -> Tensor:
        mask = None if attn_mask is None else attn_mask.cpu()
        return real(*parts, attn_mask=mask, **settings)

    patch.setattr(F, "scaled_dot_product_attention", attention)


def features_are_read_by_numpy(patch: pytest.MonkeyPatch) -> None:
    """Which works as long as everything is on the CPU."""
    changed(FrozenCLIP, "encode_texts", lambda x: torch.from_numpy(x.numpy()).to(x.device))(patch)


def noise_is_drawn_there_by_a_generator_of_the_host(patch: pytest.MonkeyPatch) -> None:
    """torch.randn(..., device=, generator=) with two devices."""

    def normal(self: ReplicaRng, *shape: int) -> Tensor:
        draws = [
            torch.randn(shape, generator=stream, device=self._device, dtype=self._dtype)
            for stream in self._streams
        ]
        return torch.stack(draws)

    patch.setattr(ReplicaRng, "normal", normal)


@pytest.mark.parametrize(
    ("mutant", "error"),
    [
        (noise_stays_on_the_host, MixedDevicesError),
        (masks_are_made_on_the_host, MixedDevicesError),
        (features_are_read_by_numpy, TypeError),
        (noise_is_drawn_there_by_a_generator_of_the_host, RuntimeError),
    ],
)
def test_a_forgotten_device_is_found(
    mutant: Patch,
    error: type[Exception],
    host_clip: FrozenCLIP,
    device_clip: FrozenCLIP,
    features: FeatureSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trial with it ends on the device, and not on the CPU."""
    mutant(monkeypatch)
    assert list(run_trial(trial(), SEEDS, features, host_clip))[-1].stage == "test"
    with pytest.raises(error):
        list(run_trial(trial(), SEEDS, features, device_clip))


def moments_stay_on_the_host(patch: pytest.MonkeyPatch) -> None:
    """What an optimizer remembers, as the checkpoint had it."""

    real = ReplicaOptimizer.load_state_dict

    def load(self: ReplicaOptimizer, state: Mapping[str, Tensor]) -> None:
        real(self, state)
        (inner,) = (held for held in vars(self).values() if isinstance(held, Optimizer))
        for memory in inner.state.values():
            memory.update({name: value.cpu() for name, value in memory.items()})

    patch.setattr(ReplicaOptimizer, "load_state_dict", load)


def test_a_checkpoint_that_is_put_back_on_the_host_is_found(
    host_clip: FrozenCLIP,
    device_clip: FrozenCLIP,
    features: FeatureSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only by a trial that goes on."""
    moments_stay_on_the_host(monkeypatch)
    for clip in (host_clip, device_clip):
        running = run_trial(trial(), SEEDS, features, clip)
        checkpoint: Checkpoint | None = None
        for item in running:
            if (item.stage, item.epoch) == ("selection_generator", 1):
                checkpoint = running.checkpoint()
        assert checkpoint is not None
        again = run_trial(trial(), SEEDS, features, clip, resume=checkpoint)
        if clip is host_clip:
            list(again)
            continue
        with pytest.raises(MixedDevicesError):
            list(again)


def test_a_value_that_is_read_in_a_step_is_counted(
    device: EmulatedDevice,
    device_clip: FrozenCLIP,
    features: FeatureSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It breaks nothing; the device stands still for it at each step."""

    def waits() -> int:
        with device.counting() as counts:
            list(run_trial(trial(selection="none"), SEEDS, features, device_clip))
        return counts.n_syncs

    before, real, steps = waits(), VAE._step, 0

    def step(self: VAE, *args: Any) -> Any:
        nonlocal steps
        steps += 1
        float(self._task.features.sum())
        return real(self, *args)

    monkeypatch.setattr(VAE, "_step", step)
    assert waits() == before + steps and steps >= 2
