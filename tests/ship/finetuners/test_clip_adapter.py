"""CLIP-Adapter: loss and gradients by hand, and what the ratio does."""

import numpy as np
import pytest
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.finetuners.clip_adapter import CLIPAdapter, CLIPAdapterConfig
from ship.finetuners.zero_shot import ZeroShot, ZeroShotConfig
from ship.tasks.task import Task
from tests.ship.conftest import build_features, final_task

SEEDS = [0, 4]


@pytest.fixture(scope="module")
def task(clip64: FrozenCLIP) -> Task:
    """Four base classes with three pictures in one view, four new ones without."""
    return final_task(clip64, build_features(clip64, views=0), SEEDS, shots=3)


def loss_by_hand(
    down: np.ndarray, up: np.ndarray, x: np.ndarray, y: np.ndarray, w: np.ndarray, task: Task
) -> float:
    """One replica's loss at ratio 0.3 over the four base classes, in numpy row by row."""
    total = 0.0
    for feature, label, weight in zip(x, y, w, strict=True):
        hidden = np.maximum(feature @ down, 0)
        mixed = 0.3 * np.maximum(hidden @ up, 0) + 0.7 * feature
        z = task.logit_scale * task.text_features[:4].numpy() @ mixed / np.linalg.norm(mixed)
        total += weight * (np.log(np.exp(z).sum()) - z[label])
    return total / w.sum()


def test_loss_and_gradients_by_hand(task: Task, clip64: FrozenCLIP) -> None:
    """The loss is numpy's; every weight's gradient is that loss's central difference."""
    adapter = CLIPAdapter(CLIPAdapterConfig(ratio=0.3), task, None, clip64, SEEDS)
    weights = torch.linspace(0.2, 2, task.labels.numel(), dtype=torch.float64).reshape(2, -1)
    loss = adapter.loss(task.features[:, :, 0], task.labels, weights)
    gradients = torch.autograd.grad(loss.sum(), [adapter.down, adapter.up])
    for r in range(len(SEEDS)):
        data = (t[r].numpy() for t in (task.features[:, :, 0], task.labels, weights))
        rows = (*data, task)
        matrices = [value[r].detach().numpy().copy() for value in (adapter.down, adapter.up)]
        assert loss[r].item() == pytest.approx(loss_by_hand(*matrices, *rows), abs=1e-12)
        for matrix, gradient in zip(matrices, gradients, strict=True):
            slopes = np.empty_like(matrix)
            for place in np.ndindex(*matrix.shape):
                kept, sides = matrix[place], []
                for shift in (1e-6, -1e-6):
                    matrix[place] = kept + shift
                    sides.append(loss_by_hand(*matrices, *rows))
                matrix[place] = kept
                slopes[place] = (sides[0] - sides[1]) / 2e-6
            assert np.abs(slopes).max() > 1e-3
            np.testing.assert_allclose(gradient[r].numpy(), slopes, atol=1e-7)


def test_first_epoch_reports_the_loss_and_moves_both_layers(task: Task, clip64: FrozenCLIP) -> None:
    """An epoch of one step over all pictures starts from the loss by hand, and lowers it."""
    config = CLIPAdapterConfig(ratio=0.3, batch_size=64, epochs=2)
    adapter = CLIPAdapter(config, task, None, clip64, SEEDS)
    x, y = task.features[:, :, 0], task.labels
    before = adapter.state_dict()
    matrices = (before["down"][1].numpy(), before["up"][1].numpy())
    expected = loss_by_hand(*matrices, x[1].numpy(), y[1].numpy(), np.ones(y.shape[1]), task)
    assert adapter.train_epoch()["loss"][1].item() == pytest.approx(expected, abs=1e-10)
    assert adapter.loss(x, y, None)[1].item() < expected
    after = adapter.state_dict()
    assert all(not torch.equal(after[name], before[name]) for name in ("down", "up"))


def test_ratio_0_is_zero_shot(task: Task, clip64: FrozenCLIP) -> None:
    """Nothing of the adapter mixed in leaves CLIP's logits; another ratio does not."""
    adapter = CLIPAdapter(CLIPAdapterConfig(), task, None, clip64, SEEDS)
    zero_shot = ZeroShot(ZeroShotConfig(), task, None, clip64, SEEDS)
    x = task.features[0, :, 0]
    torch.testing.assert_close(adapter.logits(x, {"ratio": 0.0}), zero_shot.logits(x, {}))
    gap = adapter.logits(x, {"ratio": 0.2}) - zero_shot.logits(x, {})
    assert bool(gap.abs().max() > 1e-2)


def test_the_size_of_a_feature_does_not_matter(task: Task, clip64: FrozenCLIP) -> None:
    """Features before normalisation, as the authors adapt them, give the same mixture."""
    adapter = CLIPAdapter(CLIPAdapterConfig(), task, None, clip64, SEEDS)
    x = task.features[:, :, 0]
    torch.testing.assert_close(adapter.adapt(10 * x, 0.2), adapter.adapt(x, 0.2))


def test_choices_are_ratios(task: Task, clip64: FrozenCLIP) -> None:
    """The configured ratio alone, or first before a grid that can ignore the adapter."""
    fixed = CLIPAdapter(CLIPAdapterConfig(ratio=0.4), task, None, clip64, SEEDS)
    assert fixed.choices == ({"ratio": 0.4},)
    searched = CLIPAdapter(CLIPAdapterConfig(ratio=0.4, search=True), task, None, clip64, SEEDS)
    ratios = [choice["ratio"] for choice in searched.choices]
    assert ratios[0] == 0.4 and 0.0 in ratios and ratios.count(0.4) == 1


def test_the_bottleneck_has_a_unit_at_least(task: Task, clip64: FrozenCLIP) -> None:
    """hidden = feature size // reduction, never 0."""
    for reduction, hidden in ((4, 4), (1, 16), (64, 1)):
        config = CLIPAdapterConfig(reduction=reduction)
        adapter = CLIPAdapter(config, task, None, clip64, SEEDS)
        assert adapter.down.shape == (2, 16, hidden) and adapter.up.shape == (2, hidden, 16)
