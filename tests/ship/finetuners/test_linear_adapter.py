"""The linear adapter: loss, gradient and first step by hand; what holds it near the identity."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ship.clip.frozen_clip import FrozenCLIP
from ship.configs import LinearAdapterConfig
from ship.finetuners.linear_adapter import LinearAdapter
from ship.tasks.task import Task
from tests.ship.conftest import build_features, final_task
from tests.ship.finetuners.by_hand import Array, cross_entropy, random_batch, scatter, synthesizer

SEEDS = [0, 4]


@pytest.fixture(scope="module")
def task(clip64: FrozenCLIP) -> Task:
    """Four base classes with three pictures in one view, four new ones without."""
    return final_task(clip64, build_features(clip64, views=0), SEEDS, shots=3)


def by_hand(
    task: Task, w: Array, x: Array, labels: list[int], weights: Array, allowed: list[bool]
) -> tuple[float, Array]:
    """One replica's loss with the penalty 0.7 / 3 (three shots), and its gradient by the map."""
    mapped = x @ w
    norms = np.linalg.norm(mapped, axis=1, keepdims=True)
    unit, text = mapped / norms, task.text_features.numpy()
    loss, d_logits = cross_entropy(task.logit_scale * unit @ text.T, labels, allowed, weights)
    d_unit = task.logit_scale * d_logits @ text
    d_mapped = (d_unit - unit * (unit * d_unit).sum(1, keepdims=True)) / norms
    apart = w - np.eye(len(w))
    return loss + 0.7 / 3 * (apart**2).sum(), x.T @ d_mapped + 2 * 0.7 / 3 * apart


@pytest.mark.parametrize("synthetic", [True, False])
def test_loss_and_gradient_by_hand(task: Task, clip64: FrozenCLIP, synthetic: bool) -> None:
    """Cosines of mapped features; over base classes alone where nothing is synthesized."""
    made = synthesizer(task, clip64, SEEDS) if synthetic else None
    adapter = LinearAdapter(LinearAdapterConfig(weight=0.7), task, made, clip64, SEEDS)
    scatter(adapter.map, 0.5)
    x, y, weights = random_batch(task, list(range(8 if synthetic else 4)))
    loss = adapter.loss(x, y, weights)
    (gradient,) = torch.autograd.grad(loss.sum(), [adapter.map])
    for r in range(2):
        w = adapter.map[r].detach().numpy()
        allowed = [synthetic or c < 4 for c in range(8)]
        value, by_map = by_hand(task, w, x[r].numpy(), y[r].tolist(), weights[r].numpy(), allowed)
        assert loss[r].item() == pytest.approx(value, abs=1e-10)
        np.testing.assert_allclose(gradient[r].numpy(), by_map, atol=1e-10)


def test_first_step_is_adams(task: Task, clip64: FrozenCLIP) -> None:
    """All pictures in one step, which goes against g / (|g| + 1e-4); it begins as zero-shot."""
    adapter = LinearAdapter(LinearAdapterConfig(lr=0.01), task, None, clip64, SEEDS)
    x, y = task.features[:, :, 0], task.labels
    torch.testing.assert_close(adapter.logits(x[0], {})[0], task.zero_shot_logits(x[0]))
    (gradient,) = torch.autograd.grad(adapter.loss(x, y, None).sum(), [adapter.map])
    adapter.train_epoch()
    step = 0.01 * gradient / (gradient.abs() + 1e-4)
    expected = torch.eye(16, dtype=torch.float64) - step
    torch.testing.assert_close(adapter.map.detach(), expected, atol=1e-9, rtol=0)


def distance(task: Task, clip: FrozenCLIP, weight: float) -> Tensor:
    """How far from the identity a trained map is."""
    config = LinearAdapterConfig(weight=weight, lr=0.01, epochs=40)
    adapter = LinearAdapter(config, task, None, clip, SEEDS)
    for _ in range(adapter.epochs):
        adapter.train_epoch()
    return (adapter.map.detach() - torch.eye(16, dtype=torch.float64)).norm()


def test_the_penalty_holds_it_back(task: Task, clip64: FrozenCLIP) -> None:
    """The stronger, the nearer to the identity; fewer shots are a stronger one."""
    far, near = distance(task, clip64, 0.0), distance(task, clip64, 10.0)
    assert far > 2 * near > 0
    one = final_task(clip64, build_features(clip64, views=0), SEEDS, shots=1)
    adapters = [LinearAdapter(LinearAdapterConfig(), t, None, clip64, SEEDS) for t in (task, one)]
    penalties = []
    for adapter, t in zip(adapters, (task, one), strict=True):
        before = adapter.loss(t.features[:, :, 0], t.labels, None)
        with torch.no_grad():
            adapter.map.mul_(2)  # changes no cosine
        penalties.append(adapter.loss(t.features[:, :, 0], t.labels, None) - before)
    torch.testing.assert_close(penalties[1], 3 * penalties[0])
