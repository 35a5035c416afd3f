"""KgCoOp against a derivation of its own in float64, and against CoOp at extreme weights."""

import numpy as np
import pytest
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.finetuners.coop import CoOp, CoOpConfig
from ship.finetuners.kgcoop import KgCoOp, KgCoOpConfig, knowledge_distance
from tests.ship.conftest import final_task
from tests.ship.finetuners import by_hand

SEEDS = [0, 4]


def build(
    clip: FrozenCLIP,
    features: FeatureSet,
    *,
    synthetic: bool = False,
    staggered: bool = False,
    **settings: object,
) -> KgCoOp:
    """KgCoOp on the final task: four base classes with three pictures, four new ones."""
    task = final_task(clip, features, SEEDS, shots=3)
    if staggered:
        task = by_hand.staggered(task)
    made = by_hand.synthesizer(task, clip, SEEDS) if synthetic else None
    return KgCoOp(KgCoOpConfig.model_validate(settings), task, made, clip, SEEDS)


def build_coop(clip: FrozenCLIP, features: FeatureSet, *, synthetic: bool, lr: float) -> CoOp:
    """CoOp on the same task, with KgCoOp's batches and no distance."""
    task = final_task(clip, features, SEEDS, shots=3)
    made = by_hand.synthesizer(task, clip, SEEDS) if synthetic else None
    return CoOp(CoOpConfig(lr=lr, epochs=8, batch_size=3), task, made, clip, SEEDS)


@pytest.mark.parametrize("synthetic", [False, True])
def test_loss_and_gradient_equal_a_derivation_by_hand(
    synthetic: bool, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """To 1e-9; the distance runs over base classes, with synthetic features over all."""
    kgcoop = build(clip64, features, synthetic=synthetic, staggered=True, weight=3.0)
    task, ctx = kgcoop._task, kgcoop.learner.ctx
    by_hand.scatter(ctx, 0.5)
    x, labels, weights = by_hand.random_batch(task, [0, 1, 2, 3, 5, 7] if synthetic else [2, 3])
    loss = kgcoop.loss(x, labels, weights)
    loss.sum().backward()
    assert ctx.grad is not None
    for replica in range(2):
        batch = (x[replica].numpy(), labels[replica].tolist(), weights[replica].numpy())
        allowed = [True] * 8 if synthetic else task.seen[replica].tolist()
        expected, d_ctx = by_hand.coop_loss(
            clip64, task, ctx[replica].detach().numpy(), "end", batch, allowed, kg_weight=3.0
        )
        assert abs(float(loss[replica].detach()) - expected) < 1e-9
        np.testing.assert_allclose(ctx.grad[replica].numpy(), d_ctx, atol=1e-9, rtol=0)


def test_distance_by_hand() -> None:
    """2 - 2 cos a class: 0 for equal features, 2 for orthogonal, 4 for opposite ones."""
    written = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    learned = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]])
    assert knowledge_distance(learned, written, None).tolist() == [2.0]
    assert knowledge_distance(learned, written, torch.tensor([[True, True, False]])).tolist() == [1]


@pytest.mark.parametrize("synthetic", [False, True])
def test_weight_zero_is_coop(synthetic: bool, clip64: FrozenCLIP, features: FeatureSet) -> None:
    """From the same start and on the same batches, up to the order in which gradients are added."""
    settings = {"lr": 0.05, "epochs": 8, "batch_size": 3}
    kgcoop = build(clip64, features, synthetic=synthetic, weight=0.0, **settings)
    coop = build_coop(clip64, features, synthetic=synthetic, lr=0.05)
    made, expected = (by_hand.train(f).state_dict()["ctx"] for f in (kgcoop, coop))
    torch.testing.assert_close(made, expected, atol=1e-12, rtol=0)


def test_a_huge_weight_holds_it_at_its_start(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """From the template's own words, the text features hardly leave where CoOp's go far."""
    kgcoop = build(clip64, features, synthetic=True, weight=1e3, lr=1e-3, epochs=8, batch_size=3)
    coop = build_coop(clip64, features, synthetic=True, lr=1e-3)
    start = kgcoop.learner.text_features().detach()
    held, free = (
        (by_hand.train(f).learner.text_features() - start).norm(dim=-1).mean(1)
        for f in (kgcoop, coop)
    )
    assert bool((held < 0.2 * free).all())
