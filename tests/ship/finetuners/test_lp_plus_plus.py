"""LP++: start, rates, loss and eleven steps by hand."""

import numpy as np
import pytest
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.configs import LPPlusPlusConfig
from ship.finetuners.lp_plus_plus import LPPlusPlus
from ship.tasks.task import Task
from tests.ship.conftest import build_features, selection_task
from tests.ship.finetuners.by_hand import Array, cross_entropy, synthesizer

SEEDS = [7, 2]


@pytest.fixture(scope="module")
def task(clip64: FrozenCLIP) -> Task:
    """Four classes, of which two have three pictures in three views; replicas differ in which."""
    return selection_task(clip64, build_features(clip64), SEEDS, shots=3)


def rows(probe: LPPlusPlus, task: Task, r: int, *, synthetic: bool) -> tuple[Array, Array, Array]:
    """Views of one replica, their labels, and what each counts as."""
    n = task.counts[r]
    x = task.features[r, :n].reshape(3 * n, -1).numpy()
    y = task.labels[r, :n].numpy().repeat(3)
    share = np.full(3 * n, 1 / 3)
    if not synthetic:
        return x, y, share
    # the fixed set stands in front: three features of each of two classes, at half the weight
    made = probe._features[r, :18].numpy()
    labels = task.unseen_ids[r].repeat_interleave(3).numpy().repeat(3)
    return (
        np.concatenate([made, x]),
        np.concatenate([labels, y]),
        np.concatenate([np.full(18, 0.5 / 3), share]),
    )


@pytest.mark.parametrize("synthetic", [False, True])
def test_eleven_steps_by_hand(task: Task, clip64: FrozenCLIP, synthetic: bool) -> None:
    """Momentum on w; alpha moves in the tenth step alone; rates 4 / lambda_max and 1 / (4 max).

    alpha starts at 20 times the cosine of pictures to the text of their own class, by class.
    """
    made = synthesizer(task, clip64, SEEDS) if synthetic else None
    probe = LPPlusPlus(LPPlusPlusConfig(alpha_scale=20.0), task, made, clip64, SEEDS)
    starts = [probe.weight.detach().clone(), probe.alpha.detach().clone()]
    losses = torch.stack([probe.train_epoch()["loss"] for _ in range(11)])
    text = task.text_features.numpy()
    for r in range(2):
        x, y, share = rows(probe, task, r, synthetic=synthetic)
        allowed = np.array([True] * 4 if synthetic else task.seen[r].tolist())
        shown = np.unique(y)
        w = np.stack([(share[y == c, None] * x[y == c]).sum(0) for c in range(4)])
        own = [np.average(x[y == c] @ text[c], weights=share[y == c]) for c in shown]
        alpha = np.full(4, 20 * np.mean(own))
        np.testing.assert_allclose(starts[0][r].numpy(), w, atol=1e-12)
        np.testing.assert_allclose(starts[1][r].numpy(), alpha, atol=1e-10)
        p = share / share.sum()
        rate_w = 4 / np.linalg.eigvalsh((x * p[:, None]).T @ x)[-1]
        rate_alpha = 1 / (4 * (p @ (x @ text[allowed].T) ** 2).max())
        np.testing.assert_allclose(probe.rates[:, r].numpy(), [rate_w, rate_alpha], rtol=1e-10)
        velocity = np.zeros_like(w)
        for step in range(1, 12):
            logits = x @ (w + alpha[:, None] * text).T
            loss, d = cross_entropy(logits, y.tolist(), allowed.tolist(), share)
            assert losses[step - 1, r].item() == pytest.approx(loss, abs=1e-9)
            velocity = 0.9 * velocity + d.T @ x
            w = w - rate_w * velocity
            if step == 10:
                alpha = alpha - rate_alpha * (d * (x @ text.T)).sum(0)
        np.testing.assert_allclose(probe.weight[r].detach().numpy(), w, atol=1e-8)
        np.testing.assert_allclose(probe.alpha[r].detach().numpy(), alpha, atol=1e-8)
        assert np.abs(alpha - starts[1][r].numpy()).max() > 1e-4


def test_classes_without_features_keep_their_text_feature(task: Task, clip64: FrozenCLIP) -> None:
    """w stays 0 and alpha where it started, so that among themselves they are zero-shot."""
    probe = LPPlusPlus(LPPlusPlusConfig(epochs=30), task, None, clip64, SEEDS)
    start = probe.alpha.detach().clone()
    for _ in range(30):
        probe.train_epoch()
    for r in range(2):
        new = ~task.seen[r]
        assert bool((probe.weight[r, new] == 0).all())
        assert torch.equal(probe.alpha[r, new], start[r, new])
        assert bool((probe.alpha[r, ~new] != start[r, ~new]).all())


def test_the_rate_is_a_factor(task: Task, clip64: FrozenCLIP) -> None:
    """On both rates, of every replica."""
    plain = LPPlusPlus(LPPlusPlusConfig(), task, None, clip64, SEEDS).rates
    scaled = LPPlusPlus(LPPlusPlusConfig(rate=0.25), task, None, clip64, SEEDS).rates
    torch.testing.assert_close(scaled, 0.25 * plain)
