"""The linear probe: loss, gradients and first step by hand, and what its start decides."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ship.clip.frozen_clip import FrozenCLIP
from ship.finetuners.linear_probe import LinearProbe, LinearProbeConfig
from ship.finetuners.zero_shot import ZeroShot, ZeroShotConfig
from ship.generators.controls import GaussianText, GaussianTextConfig
from ship.synthesis import Synthesizer, SyntheticConfig
from ship.tasks.task import Task
from tests.ship.conftest import build_features, final_task

SEEDS = [0, 4]


@pytest.fixture(scope="module")
def task(clip64: FrozenCLIP) -> Task:
    """Four base classes with three pictures in one view, four new ones without."""
    return final_task(clip64, build_features(clip64, views=0), SEEDS, shots=3)


def synthesizer(task: Task, clip: FrozenCLIP) -> Synthesizer:
    """Text features as synthetic ones."""
    return Synthesizer(
        SyntheticConfig(), GaussianText(GaussianTextConfig(), task, clip, SEEDS), task, SEEDS
    )


def by_hand(
    probe: LinearProbe, x: np.ndarray, y: np.ndarray, w: np.ndarray, scale: float, n_cls: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss and its gradients by weight and bias, worked out in numpy row by row.

    Args:
        n_cls: the loss runs over the first n_cls classes.
    """
    weight, bias = probe.weight.detach().numpy(), probe.bias.detach().numpy()
    start, l2 = probe._start.numpy(), probe.config.l2
    losses = np.zeros(len(x))
    by_weight, by_bias = l2 * (weight - start), np.zeros_like(bias)
    for r in range(len(x)):
        losses[r] = l2 / 2 * ((weight[r] - start[r]) ** 2).sum()
        for i in range(x.shape[1]):
            z = scale * weight[r, :n_cls] @ x[r, i] + bias[r, :n_cls]
            p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            share = w[r, i] / w[r].sum()
            losses[r] -= share * np.log(p[y[r, i]])
            slope = share * (p - np.eye(n_cls)[y[r, i]])
            by_weight[r, :n_cls] += scale * np.outer(slope, x[r, i])
            by_bias[r, :n_cls] += slope
    return losses, by_weight, by_bias


def moved(probe: LinearProbe) -> None:
    """Weights and biases away from where they start."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in (probe.weight, probe.bias):
            value += 0.05 * torch.randn(value.shape, generator=noise, dtype=value.dtype)


@pytest.mark.parametrize(("synthetic", "n_cls"), [(True, 8), (False, 4)])
def test_loss_and_gradients_by_hand(
    task: Task, clip64: FrozenCLIP, synthetic: bool, n_cls: int
) -> None:
    """Weighted cross-entropy plus ridge, over base classes alone where nothing is synthesized."""
    made = synthesizer(task, clip64) if synthetic else None
    probe = LinearProbe(LinearProbeConfig(l2=0.7), task, made, clip64, SEEDS)
    moved(probe)
    weights = torch.linspace(0.2, 2, task.labels.numel(), dtype=torch.float64).reshape(2, -1)
    loss = probe.loss(task.features[:, :, 0], task.labels, weights)
    gradients = torch.autograd.grad(loss.sum(), [probe.weight, probe.bias])
    arrays = (t.numpy() for t in (task.features[:, :, 0], task.labels, weights))
    expected = by_hand(probe, *arrays, task.logit_scale, n_cls)
    for value, by in zip((loss.detach(), *gradients), expected, strict=True):
        np.testing.assert_allclose(value.numpy(), by, atol=1e-10)


def test_first_step_is_adamws(task: Task, clip64: FrozenCLIP) -> None:
    """An epoch of one step reports the loss before it and moves against the gradient's sign."""
    config = LinearProbeConfig(epochs=2, batch_size=64, lr=0.01)
    probe = LinearProbe(config, task, None, clip64, SEEDS)
    x, y = task.features[:, :, 0].numpy(), task.labels.numpy()
    expected, *gradients = by_hand(probe, x, y, np.ones(y.shape), task.logit_scale, 4)
    before = [value.detach().clone() for value in (probe.weight, probe.bias)]
    loss = probe.train_epoch()["loss"]
    np.testing.assert_allclose(loss.numpy(), expected, atol=1e-10)
    for value, old, gradient in zip((probe.weight, probe.bias), before, gradients, strict=True):
        step = 0.01 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(value.detach().numpy(), old.numpy() - step, atol=1e-8)


def test_before_training_it_is_zero_shot(task: Task, clip64: FrozenCLIP) -> None:
    """Text features as weights give CLIP's logits; init: zero gives none."""
    x = task.features[0, :, 0]
    logits = LinearProbe(LinearProbeConfig(), task, None, clip64, SEEDS).logits(x, {})
    zero_shot = ZeroShot(ZeroShotConfig(), task, None, clip64, SEEDS).logits(x, {})
    torch.testing.assert_close(logits, zero_shot)
    blank = LinearProbe(LinearProbeConfig(init="zero"), task, None, clip64, SEEDS)
    assert bool((blank.logits(x, {}) == 0).all())


def _distance(probe: LinearProbe) -> Tensor:
    """How far each class's weights are from where they started, after all epochs; (replica, 8)."""
    for _ in range(probe.epochs):
        probe.train_epoch()
    return (probe.weight - probe._start).detach().norm(dim=-1) + probe.bias.detach().abs()


def test_classes_without_data_keep_their_weights(task: Task, clip64: FrozenCLIP) -> None:
    """New classes stay bit by bit where they start, unless features of them are synthesized."""
    config = LinearProbeConfig(epochs=4, lr=0.01)
    alone = _distance(LinearProbe(config, task, None, clip64, SEEDS))
    assert bool((alone[:, 4:] == 0).all()) and bool((alone[:, :4] > 1e-3).all())
    joined = _distance(LinearProbe(config, task, synthesizer(task, clip64), clip64, SEEDS))
    assert bool((joined > 1e-3).all())


def test_ridge_holds_the_weights_back(task: Task, clip64: FrozenCLIP) -> None:
    """The stronger the ridge, the nearer the weights stay to their start."""
    distances = []
    for l2 in (0.0, 10.0, 1000.0):
        config = LinearProbeConfig(epochs=40, lr=0.01, l2=l2)
        probe = LinearProbe(config, task, None, clip64, SEEDS)
        _distance(probe)
        distances.append(float((probe.weight - probe._start).detach().norm()))
    assert distances[0] > 2 * distances[1] > 4 * distances[2]
