"""ZS-LP and CLAP: loss and gradient by hand, multipliers by hand, and what the penalty holds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.configs import CLAPConfig, ZSLPConfig
from ship.finetuners.clap import CLAP, ZSLP, zero_shot_confidence
from ship.tasks.task import Task
from tests.ship.conftest import build_features, selection_task
from tests.ship.finetuners.by_hand import (
    Array,
    cross_entropy,
    random_batch,
    scatter,
    synthesizer,
    train,
)

SEEDS = [7, 2]


@pytest.fixture(scope="module")
def task(clip64: FrozenCLIP) -> Task:
    """Four classes, of which two have three pictures in three views; replicas differ in which."""
    task = selection_task(clip64, build_features(clip64), SEEDS, shots=3)
    assert not torch.equal(task.seen[0], task.seen[1])
    return task


def multipliers_by_hand(task: Task, r: int, allowed: list[bool], *, others: bool) -> Array:
    """lambda_c from each view of each picture; with `others`, the mean for the rest."""
    probabilities: list[list[float]] = [[] for _ in allowed]
    for row in range(task.counts[r]):
        for x in task.features[r, row].numpy():
            z = np.where(allowed, task.logit_scale * task.text_features.numpy() @ x, -np.inf)
            p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            label = int(task.labels[r, row])
            probabilities[label].append(p[label])
    found = np.array([np.mean(p) if p else np.nan for p in probabilities])
    return np.where(np.isnan(found), np.nanmean(found) if others else 0, found)


def by_hand(
    task: Task,
    w: Array,
    batch: tuple[Array, list[int], Array],
    allowed: list[bool],
    penalties: Array,
) -> tuple[float, Array]:
    """One replica's loss around weights of norm 3, and its gradient by the weights."""
    x, labels, weights = batch
    norms = np.linalg.norm(w, axis=1, keepdims=True)
    unit, scale = w / norms, task.logit_scale
    loss, d_logits = cross_entropy(scale * x @ unit.T, labels, allowed, weights)
    d_unit = scale * d_logits.T @ x
    d_w = (d_unit - unit * (unit * d_unit).sum(1, keepdims=True)) / norms
    apart = w - 3 * task.text_features.numpy()
    share = penalties[:, None] / sum(allowed)
    return loss + (share * apart**2).sum(), d_w + 2 * share * apart


@pytest.mark.parametrize("synthetic", [True, False])
@pytest.mark.parametrize("penalty", [0.0, 0.6])
def test_loss_and_gradient_by_hand(
    task: Task, clip64: FrozenCLIP, synthetic: bool, penalty: float
) -> None:
    """Cosines to the weights and lambda_c |w_c - t_c|^2, over classes with features."""
    made = synthesizer(task, clip64, SEEDS) if synthetic else None
    probe: ZSLP
    if penalty:
        probe = CLAP(CLAPConfig(norm=3, weight=penalty), task, made, clip64, SEEDS)
    else:
        probe = ZSLP(ZSLPConfig(norm=3), task, made, clip64, SEEDS)
    scatter(probe.weight, 2.0)
    x, _, weights = random_batch(task, [0])
    for r in range(2):
        allowed = [True] * 4 if synthetic else task.seen[r].tolist()
        shown = [c for c in range(4) if allowed[c]]
        y = torch.tensor([[shown[i % len(shown)] for i in range(5)]] * 2)
        # the other replica's labels may be of classes that its loss leaves out
        loss = probe.loss(x, y, weights)[r]
        (gradient,) = torch.autograd.grad(loss, [probe.weight])
        held = multipliers_by_hand(task, r, allowed, others=synthetic)
        batch = (x[r].numpy(), y[r].tolist(), weights[r].numpy())
        w = probe.weight[r].detach().numpy()
        value, by_weight = by_hand(task, w, batch, allowed, penalty * held)
        assert loss.item() == pytest.approx(value, abs=1e-10)
        np.testing.assert_allclose(gradient[r].numpy(), by_weight, atol=1e-10)


def test_multipliers_are_zero_shots_confidence(task: Task, clip64: FrozenCLIP) -> None:
    """Of each seen class; 0 of the others, or the seen ones' mean where they are synthesized."""
    for allowed in (task.seen, None):
        found = zero_shot_confidence(task, allowed)
        for r in range(2):
            mask = [True] * 4 if allowed is None else allowed[r].tolist()
            expected = multipliers_by_hand(task, r, mask, others=allowed is None)
            np.testing.assert_allclose(found[r].numpy(), expected, atol=1e-12)
    assert len(set(found[0].tolist())) > 2


def test_without_penalty_clap_is_zs_lp(task: Task, clip64: FrozenCLIP) -> None:
    """The same batches and steps; with a penalty the weights stay nearer to the text features."""
    settings = {"epochs": 5, "batch_size": 4}
    plain = train(ZSLP(ZSLPConfig(**settings), task, None, clip64, SEEDS)).weight
    weights = [
        train(CLAP(CLAPConfig(weight=w, **settings), task, None, clip64, SEEDS)).weight
        for w in (0.0, 0.5)
    ]
    assert torch.equal(plain, weights[0])
    start = 10 * task.text_features
    near, far = ((w.detach() - start).norm() for w in (weights[1], weights[0]))
    assert 0 < near < far


def test_it_begins_as_zero_shot_and_steps_with_momentum(task: Task, clip64: FrozenCLIP) -> None:
    """Two epochs of one step: w - lr_1 g_1, then - lr_2 (0.9 g_1 + g_2); cosine to 0."""
    flat = task.features[:, :, :1].expand_as(task.features)  # every view the same
    still = replace(task, features=flat)
    probe = ZSLP(ZSLPConfig(epochs=2, lr=0.2), still, None, clip64, SEEDS)
    x, y = still.features[:, :, 0], still.labels
    torch.testing.assert_close(probe.logits(x[0], {})[0], still.zero_shot_logits(x[0]))
    first = probe.weight.detach().clone()
    (one,) = torch.autograd.grad(probe.loss(x, y, None).sum(), [probe.weight])
    probe.train_epoch()
    torch.testing.assert_close(probe.weight.detach(), first - 0.2 * one, atol=1e-10, rtol=0)
    second = probe.weight.detach().clone()
    (two,) = torch.autograd.grad(probe.loss(x, y, None).sum(), [probe.weight])
    probe.train_epoch()
    expected = second - 0.1 * (0.9 * one + two)
    torch.testing.assert_close(probe.weight.detach(), expected, atol=1e-10, rtol=0)
