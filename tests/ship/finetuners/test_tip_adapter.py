"""Tip-Adapter: its cache, and -F's loss and key gradients by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.finetuners.tip_adapter import (
    TipAdapter,
    TipAdapterConfig,
    TipAdapterF,
    TipAdapterFConfig,
    cache_logits,
)
from ship.finetuners.zero_shot import ZeroShot, ZeroShotConfig
from ship.generators.controls import GaussianText, GaussianTextConfig
from ship.synthesis import Synthesizer, SyntheticConfig
from ship.tasks.task import Task
from tests.ship.conftest import build_features, final_task

SEEDS = [0, 4]


@pytest.fixture(scope="module")
def task(clip64: FrozenCLIP) -> Task:
    """Four base classes with three pictures in three views, four new ones without."""
    return final_task(clip64, build_features(clip64), SEEDS, shots=3)


def synthesizer(task: Task, clip: FrozenCLIP, weight: float = 1.0) -> Synthesizer:
    """Noisy text features as synthetic ones, two a class."""
    generator = GaussianText(GaussianTextConfig(scale=0.1), task, clip, SEEDS)
    return Synthesizer(SyntheticConfig(per_class=2, weight=weight), generator, task, SEEDS)


def test_without_its_cache_it_is_zero_shot(task: Task, clip64: FrozenCLIP) -> None:
    """alpha = 0 leaves CLIP's logits."""
    tip = TipAdapter(TipAdapterConfig(), task, None, clip64, SEEDS)
    zero_shot = ZeroShot(ZeroShotConfig(), task, None, clip64, SEEDS)
    x = task.features[0, :, 0]
    made = tip.logits(x, {"alpha": 0.0, "beta": 5.5})
    torch.testing.assert_close(made, zero_shot.logits(x, {}))


def test_cache_logits_by_hand() -> None:
    """alpha * exp(-beta (1 - cos)) summed over the keys of a class."""
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    values = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    made = cache_logits(torch.tensor([[1.0, 0.0]]), keys, values, alpha=2.0, beta=3.0)
    expected = torch.tensor([[[4.0, 2.0 * torch.tensor(-3.0).exp()]]])
    torch.testing.assert_close(made, expected)


def test_synthetic_features_join_the_cache(task: Task, clip64: FrozenCLIP) -> None:
    """With text features as keys, the cache raises new classes' logits near their text."""
    plain = TipAdapter(TipAdapterConfig(), task, None, clip64, SEEDS)
    joined = TipAdapter(TipAdapterConfig(), task, synthesizer(task, clip64), clip64, SEEDS)
    x = task.text_features[4:]
    choice = {"alpha": 1.0, "beta": 5.5}
    gain = joined.logits(x, choice) - plain.logits(x, choice)
    assert bool((gain[:, range(4), range(4, 8)] > 0.5).all())
    assert bool((gain[:, :, :4].abs() < 1e-12).all())


def by_hand(
    keys: np.ndarray, values: np.ndarray, x: np.ndarray, y: np.ndarray, w: np.ndarray, task: Task
) -> tuple[float, np.ndarray]:
    """One replica's sum of weight * loss and its gradient by the keys, at alpha 2 and beta 3."""
    total, by_keys = 0.0, np.zeros_like(keys)
    for feature, label, weight in zip(x, y, w, strict=True):
        affinity = np.exp(-3.0 * (1 - keys @ feature))
        z = task.logit_scale * task.text_features.numpy() @ feature + 2.0 * affinity @ values
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        total -= weight * np.log(p[label])
        slope = p - np.eye(len(p))[label]
        by_keys += weight * np.outer(2.0 * 3.0 * affinity * (values @ slope), feature)
    return total, by_keys


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_loss_and_key_gradients_by_hand(task: Task, clip64: FrozenCLIP, weight: float) -> None:
    """Over the whole set: the weighted mean cross-entropy of zero-shot plus cached logits."""
    config = TipAdapterFConfig(alpha=2.0, beta=3.0)
    tip = TipAdapterF(config, task, synthesizer(task, clip64, weight), clip64, SEEDS)
    x, y = tip._rows.features[:, :, 1], tip._rows.labels
    w = torch.tensor([weight] * 8 + [1.0] * 12, dtype=torch.float64).expand(2, -1)
    loss = tip.loss(x, y, None if weight == 1 else w)
    (gradient,) = torch.autograd.grad(loss.sum(), tip.keys)
    for r in range(len(SEEDS)):
        arrays = (t[r].detach().numpy() for t in (tip.keys, tip._cache.values, x, y, w))
        total, by_keys = by_hand(*arrays, task)
        assert loss[r].item() == pytest.approx(total / w[r].sum().item(), abs=1e-10)
        np.testing.assert_allclose(gradient[r].numpy(), by_keys / w[r].sum().item(), atol=1e-10)


def test_a_rows_weight_is_the_same_in_every_batch(task: Task, clip64: FrozenCLIP) -> None:
    """The mean over an epoch's batches is the weighted mean over the set, however they are cut."""
    tip = TipAdapterF(TipAdapterFConfig(), task, synthesizer(task, clip64, 0.1), clip64, SEEDS)
    x, y, w = tip._rows.features[:, :, 0], tip._rows.labels, tip._rows.weights
    whole = tip.loss(x, y, w)
    # the first batch is synthetic throughout
    parts = [tip.loss(x[:, cut], y[:, cut], w[:, cut]) for cut in torch.arange(20).split(4)]
    torch.testing.assert_close(torch.stack(parts).mean(0), whole)


def test_synthetic_weight_matters_to_f_alone(task: Task, clip64: FrozenCLIP) -> None:
    """Lighter synthetic losses move other keys in -F; the cache itself knows no weight."""
    x = task.features[0, :, 0]
    made = {}
    for weight in (1.0, 0.01):
        synthetic = [synthesizer(task, clip64, weight) for _ in range(2)]
        plain = TipAdapter(TipAdapterConfig(), task, synthetic[0], clip64, SEEDS)
        tuned = TipAdapterF(TipAdapterFConfig(epochs=3), task, synthetic[1], clip64, SEEDS)
        for _ in range(tuned.epochs):
            tuned.train_epoch()
        made[weight] = [f.logits(x, f.choices[0]) for f in (plain, tuned)]
    assert torch.equal(made[1.0][0], made[0.01][0])
    assert bool((made[1.0][1] - made[0.01][1]).abs().max() > 1e-4)


def test_without_synthetic_features_new_classes_have_no_loss(
    task: Task, clip64: FrozenCLIP
) -> None:
    """-F's loss then runs over base classes alone, and its cache holds no key of another."""
    # new names that CLIP takes for the base pictures cost nothing
    confusing = replace(task, text_features=task.text_features[:4].repeat(2, 1))
    losses = []
    for t in (task, confusing):
        tip = TipAdapterF(TipAdapterFConfig(), t, None, clip64, SEEDS)
        assert bool((tip._cache.values[:, :, 4:] == 0).all())
        losses.append(tip.loss(t.features[:, :, 0], t.labels, None))
    torch.testing.assert_close(losses[0], losses[1])
