"""Mistakes that a CPU forgives, made on purpose: on the emulated device each of them is found.

What test_trials.py shows is worth as much as the faults that it would catch.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from ship.clip import FrozenCLIP
from ship.clip.text_tower import TextTower
from ship.features import FeatureSet
from ship.generators.vae import VAE
from ship.protocols.tasks import TaskBuilder
from ship.tasks import Task
from ship.training import Checkpoint, ReplicaOptimizer, ReplicaRng
from ship.trial import run, run_trial, selection
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


def labels_to_synthesize_stay_on_the_host(patch: pytest.MonkeyPatch) -> None:
    """Which classes are drawn."""
    changed(ReplicaRng, "integers", Tensor.cpu)(patch)


def labels_stay_on_the_host(patch: pytest.MonkeyPatch) -> None:
    """A task whose labels are where numpy left them."""

    def forgotten(task: Task) -> Task:
        return replace(task, labels=task.labels.cpu())

    changed(TaskBuilder, "task", forgotten)(patch)


def masks_are_made_on_the_host(patch: pytest.MonkeyPatch) -> None:
    """torch.ones without a device."""
    real = F.scaled_dot_product_attention

    def attention(*parts: Tensor, attn_mask: Tensor | None = None, **settings: Any) -> Tensor:
        mask = None if attn_mask is None else attn_mask.cpu()
        return real(*parts, attn_mask=mask, **settings)

    patch.setattr(F, "scaled_dot_product_attention", attention)


def tokens_stay_on_the_host(patch: pytest.MonkeyPatch) -> None:
    """Ids as the tokenizer gives them."""
    real = TextTower.embed
    patch.setattr(TextTower, "embed", lambda self, ids: real(self, ids.cpu()))


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


def a_scalar_of_the_host_is_stacked(patch: pytest.MonkeyPatch) -> None:
    """A loss that is a number for one replica."""
    real = VAE._step

    def step(self: VAE, *args: Any) -> Any:
        torch.stack([self._task.features.sum(), torch.tensor(0.0)])
        return real(self, *args)

    patch.setattr(VAE, "_step", step)


@pytest.mark.parametrize(
    ("mutant", "error"),
    [
        (noise_stays_on_the_host, MixedDevicesError),
        (labels_to_synthesize_stay_on_the_host, MixedDevicesError),
        (labels_stay_on_the_host, MixedDevicesError),
        (masks_are_made_on_the_host, MixedDevicesError),
        (tokens_stay_on_the_host, MixedDevicesError),
        (features_are_read_by_numpy, TypeError),
        (noise_is_drawn_there_by_a_generator_of_the_host, RuntimeError),
        (a_scalar_of_the_host_is_stacked, MixedDevicesError),
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


def the_best_state_stays_on_the_host(patch: pytest.MonkeyPatch) -> None:
    """What selection has kept so far, as the checkpoint had it."""

    def keep(
        better: Tensor, new: Mapping[str, Tensor], old: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        shaped = {n: better.to(v.device).reshape(-1, *[1] * (v.ndim - 1)) for n, v in new.items()}
        return {n: torch.where(shaped[n], v, old.get(n, v)) for n, v in new.items()}

    for module in (selection, run):
        patch.setattr(module, "keep_better", keep)


@pytest.mark.parametrize(
    ("mutant", "behind"),
    [
        (moments_stay_on_the_host, ("selection_generator", 1)),
        (the_best_state_stays_on_the_host, ("selection", 1)),
    ],
)
def test_a_checkpoint_that_is_put_back_on_the_host_is_found(
    mutant: Patch,
    behind: tuple[str, int],
    host_clip: FrozenCLIP,
    device_clip: FrozenCLIP,
    features: FeatureSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only by a trial that goes on."""
    mutant(monkeypatch)
    for clip in (host_clip, device_clip):
        running = run_trial(trial(), SEEDS, features, clip)
        checkpoint: Checkpoint | None = None
        for item in running:
            if (item.stage, item.epoch) == behind:
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
