"""The optimizer of all seeds on a device, compared with torch's optimizers in float64."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from ship.seeds import SeedOptimizer
from tests.gpu.rounding import EPS, SAFETY, relative_error

LR, STEPS, SEEDS = 0.01, 20, 3
# Roundings per update of a parameter: two moments, two corrections, root, ratio, decay, sum.
OPERATIONS = 8
SHAPES = ((SEEDS, 7, 5), (SEEDS, 4096), (SEEDS, 1))
KINDS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.01}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
}


def draw_numbers(purpose: int) -> list[Tensor]:
    """Return random tensors of all SHAPES."""
    rng = torch.Generator().manual_seed(purpose)
    return [torch.randn(shape, generator=rng) for shape in SHAPES]


def set_gradients(parameters: list[Tensor], step: int) -> None:
    """Set the gradients of a step."""
    for parameter, gradient in zip(parameters, draw_numbers(100 + step), strict=True):
        parameter.grad = gradient.to(parameter)


def make_parameters(device: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return the same parameters on each device."""
    return [value.to(device, dtype).requires_grad_() for value in draw_numbers(1)]


def take_plain_steps(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
    """Take STEPS steps with a torch optimizer."""
    for step in range(STEPS):
        set_gradients(parameters, step)
        optimizer.step()


@pytest.mark.parametrize("name", KINDS)
def test_steps_equal_those_of_torchs_optimizers(device: str, name: str) -> None:
    """Parameters differ by rounding errors only. On a GPU, torch's fused kernel is used."""
    kind, settings = KINDS[name]
    parameters, exact = make_parameters(device), make_parameters("cpu", torch.float64)
    optimizer = SeedOptimizer(kind, parameters, LR, **settings)
    assert bool(optimizer._inner.param_groups[0].get("fused")) == (device == "cuda")
    for step in range(STEPS):
        set_gradients(parameters, step)
        optimizer.step()
    take_plain_steps(kind(exact, lr=LR, **settings), exact)
    for parameter, expected in zip(parameters, exact, strict=True):
        allowed = SAFETY * EPS["fp32"] * (OPERATIONS * STEPS) ** 0.5
        assert relative_error(parameter, expected) < allowed


def test_each_seed_can_have_its_own_learning_rate(device: str) -> None:
    """The parameters of a seed equal those of a separate optimizer with its learning rate."""
    shares = (0.0, 0.5, 1.0)
    parameters = make_parameters(device)
    optimizer = SeedOptimizer(torch.optim.AdamW, parameters, LR, weight_decay=0.01)
    for step in range(STEPS):
        set_gradients(parameters, step)
        optimizer.step(lambda base: [share * base for share in shares])
    for seed, share in enumerate(shares):
        exact = make_parameters("cpu", torch.float64)
        take_plain_steps(torch.optim.AdamW(exact, lr=share * LR, weight_decay=0.01), exact)
        for parameter, expected in zip(parameters, exact, strict=True):
            allowed = SAFETY * EPS["fp32"] * (OPERATIONS * STEPS) ** 0.5
            assert relative_error(parameter[seed], expected[seed]) < allowed


@pytest.mark.parametrize("name", KINDS)
def test_restored_optimizer_takes_the_same_steps(device: str, name: str) -> None:
    """Its state is moved from the CPU to the device, and the next steps are identical."""
    kind, settings = KINDS[name]
    make_optimizer = partial(SeedOptimizer, kind, lr=LR, **settings)
    parameters = make_parameters(device)
    optimizer = make_optimizer(parameters)
    for step in range(3):
        set_gradients(parameters, step)
        optimizer.step()
    copies = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    restored = make_optimizer(copies)
    restored.load_state_dict(optimizer.state_dict())
    for step in range(3, 6):
        set_gradients(parameters, step)
        optimizer.step()
        set_gradients(copies, step)
        restored.step()
    for parameter, copy in zip(parameters, copies, strict=True):
        assert torch.equal(parameter, copy)
