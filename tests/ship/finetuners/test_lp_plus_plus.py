"""LP++: start, rates, loss and eleven steps by hand."""

import numpy as np
import pytest

from ship.clip import FrozenCLIP
from ship.finetuners.tune import FusedFinetuner
from ship.subsets import FeatureSet
from ship.tasks import Task
from tests.ship.by_hand import Array
from tests.ship.conftest import selection_task
from tests.ship.finetuners.cases import SEEDS, built


def rows(
    probe: FusedFinetuner, task: Task, r: int, *, synthetic: bool
) -> tuple[Array, Array, Array]:
    """Views of one replica, their labels, and what each counts as."""
    n = task.counts[r]
    x = task.features[r, :n].reshape(3 * n, -1).numpy()
    y = task.labels[r, :n].numpy().repeat(3)
    share = np.full(3 * n, 1 / 3)
    if not synthetic:
        return x, y, share
    # the fixed set stands in front: three features of each of two classes, at half the weight
    made = probe.stack.state["features"][r, :18].numpy()
    labels = task.synthesized_ids[r].repeat_interleave(3).numpy().repeat(3)
    return (
        np.concatenate([made, x]),
        np.concatenate([labels, y]),
        np.concatenate([np.full(18, 0.5 / 3), share]),
    )


def rows_losses(logits: Array, y: Array, allowed: Array, share: Array) -> tuple[Array, Array]:
    """Losses of the rows, and the gradient at their logits."""
    odds = np.exp(logits) * allowed
    p = odds / odds.sum(1, keepdims=True)
    share = share / share.sum()
    return -share * np.log(p[np.arange(len(y)), y]), share[:, None] * (p - np.eye(4)[y])


@pytest.mark.parametrize("synthetic", [False, True])
def test_eleven_steps_by_hand(clip64: FrozenCLIP, features: FeatureSet, synthetic: bool) -> None:
    """Momentum on w; alpha moves in the tenth step alone.

    alpha starts at 20 times the cosine of pictures to the text of their own class, by class. The
    rates are a quarter of 4 / lambda_max and of 1 / (4 max).
    """
    task = selection_task(clip64, features, SEEDS, shots=3)
    settings = {"alpha_scale": 20.0, "rate": 0.25}
    probe = built("lp_plus_plus", settings, task, clip64, 0.5 if synthetic else None)
    start = probe.state_dict()
    losses = [probe.train_epoch()["loss"] for _ in range(11)]
    text = task.text_features.numpy()
    for r in range(2):
        x, y, share = rows(probe, task, r, synthetic=synthetic)
        allowed = np.array([True] * 4 if synthetic else task.seen[r].tolist())
        w = np.stack([(share[y == c, None] * x[y == c]).sum(0) for c in range(4)])
        own = [np.average(x[y == c] @ text[c], weights=share[y == c]) for c in np.unique(y)]
        alpha = np.full(4, 20 * np.mean(own))
        np.testing.assert_allclose(start["weight"][r].numpy(), w, atol=1e-12)
        np.testing.assert_allclose(start["alpha"][r].numpy(), alpha, atol=1e-10)
        p = share / share.sum()
        rate_w = 1 / np.linalg.eigvalsh((x * p[:, None]).T @ x)[-1]
        rate_alpha = 1 / (16 * (p @ (x @ text[allowed].T) ** 2).max())
        velocity = np.zeros_like(w)
        for step, reported in enumerate(losses, 1):
            loss, d = rows_losses(x @ (w + alpha[:, None] * text).T, y, allowed, share)
            assert reported[r].item() == pytest.approx(loss.sum(), abs=1e-9)
            velocity = 0.9 * velocity + d.T @ x
            w = w - rate_w * velocity
            if step == 10:
                alpha = alpha - rate_alpha * (d * (x @ text.T)).sum(0)
        np.testing.assert_allclose(probe.stack.state["weight"][r].detach().numpy(), w, atol=1e-8)
        np.testing.assert_allclose(probe.stack.state["alpha"][r].detach().numpy(), alpha, atol=1e-8)
        assert np.abs(alpha - start["alpha"][r].numpy()).max() > 1e-4
