"""CoOp against a derivation of its own in float64, and what its options must leave alone."""

import numpy as np
import pytest
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.finetuners.coop import CoOp, CoOpConfig
from tests.ship.conftest import WORDS, build_features, final_task
from tests.ship.finetuners import by_hand

SEEDS = [0, 4]
EVERY_KIND = [(kind, place) for kind in (False, True) for place in ("end", "middle", "front")]


def build(
    clip: FrozenCLIP,
    features: FeatureSet,
    *,
    synthetic: bool = False,
    staggered: bool = False,
    **settings: object,
) -> CoOp:
    """CoOp on the final task: four base classes with three pictures, four new ones."""
    task = final_task(clip, features, SEEDS, shots=3)
    if staggered:
        task = by_hand.staggered(task)
    made = by_hand.synthesizer(task, clip, SEEDS) if synthetic else None
    return CoOp(CoOpConfig.model_validate(settings), task, made, clip, SEEDS)


def test_defaults_are_the_authors() -> None:
    """The figures of run_coop in main_coop_vae.py (github.com/mrflogs/SHIP), its loader's batch."""
    assert CoOpConfig().model_dump() == {
        "name": "coop",
        "n_ctx": 4,
        "ctx_init": "a photo of a",
        "class_specific": False,
        "name_position": "end",
        "lr": 2e-3,
        "epochs": 200,
        "batch_size": 256,
    }


@pytest.mark.parametrize("synthetic", [False, True])
@pytest.mark.parametrize(("class_specific", "position"), EVERY_KIND)
def test_loss_and_gradient_equal_a_derivation_by_hand(
    class_specific: bool, position: str, synthetic: bool, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """For given contexts and features, to 1e-9: base classes alone, or all of them, weighted."""
    coop = build(
        clip64,
        features,
        synthetic=synthetic,
        staggered=True,
        n_ctx=3,
        class_specific=class_specific,
        name_position=position,
    )
    task, ctx = coop._task, coop.learner.ctx
    by_hand.scatter(ctx, 0.5)
    x, labels, weights = by_hand.random_batch(task, [0, 1, 2, 3, 5, 7] if synthetic else [2, 3])
    if not synthetic:
        weights = torch.ones_like(weights)
    loss = coop.loss(x, labels, weights if synthetic else None)
    loss.sum().backward()
    assert ctx.grad is not None
    for replica in range(2):
        batch = (x[replica].numpy(), labels[replica].tolist(), weights[replica].numpy())
        allowed = [True] * 8 if synthetic else task.seen[replica].tolist()
        expected, d_ctx = by_hand.coop_loss(
            clip64, task, ctx[replica].detach().numpy(), position, batch, allowed
        )
        assert abs(float(loss[replica].detach()) - expected) < 1e-9
        np.testing.assert_allclose(ctx.grad[replica].numpy(), d_ctx, atol=1e-9, rtol=0)


def test_training_is_plain_sgd_with_a_cosine(clip64: FrozenCLIP) -> None:
    """Three epochs of whole-set batches without views follow the gradient derived by hand."""
    features = build_features(clip64, views=0)
    coop = build(clip64, features, lr=0.05, epochs=3)
    task = coop._task
    ctx = coop.learner.ctx.detach().clone().numpy()
    by_hand.train(coop)
    for replica in range(2):
        x = task.features[replica, :, 0].numpy()
        batch = (x, task.labels[replica].tolist(), np.ones(len(x)))
        for step in range(3):
            _, d_ctx = by_hand.coop_loss(
                clip64, task, ctx[replica], "end", batch, task.seen[replica].tolist()
            )
            ctx[replica] -= 0.05 * (1 + np.cos(np.pi * step / 3)) / 2 * d_ctx
    np.testing.assert_allclose(coop.state_dict()["ctx"].numpy(), ctx, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("class_specific", "position"), EVERY_KIND)
def test_before_training_is_zero_shot_of_its_words(
    class_specific: bool, position: str, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """The text features are those of the sentence with the name in its place, by open_clip."""
    sentence = {
        "end": "a photo of a {}.",
        "middle": "a photo {} of a.",
        "front": "{} a photo of a.",
    }
    coop = build(clip64, features, epochs=0, class_specific=class_specific, name_position=position)
    by_hand.train(coop)
    ids = clip64.tokenizer([sentence[position].format(name) for name in WORDS])
    with torch.no_grad():
        text = clip64._model.encode_text(ids, normalize=True)
    x = torch.tensor(features.test, dtype=torch.float64)
    expected = (clip64.logit_scale * x @ text.T).expand(2, -1, -1)
    torch.testing.assert_close(coop.logits(x, {}), expected, atol=1e-9, rtol=0)


def test_class_specific_contexts_start_as_the_shared_one(
    clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """From random vectors too: at the start, the two kinds differ in nothing."""
    shared, own = (
        build(clip64, features, ctx_init=None, class_specific=kind).text_features()
        for kind in (False, True)
    )
    torch.testing.assert_close(own, shared, atol=1e-12, rtol=0)


def test_class_specific_contexts_without_data_do_not_move(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """A base class's contexts are trained; a new class's stay, bit for bit."""
    coop = build(clip, features, class_specific=True, lr=0.1, epochs=3)
    start = coop.state_dict()["ctx"]
    moved = (by_hand.train(coop).state_dict()["ctx"] != start).flatten(2).any(2)
    assert torch.equal(moved, coop._task.seen)


def test_synthetic_features_train_the_contexts_of_new_classes(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """With synthetic features of the new classes, every class's contexts move."""
    coop = build(clip, features, class_specific=True, synthetic=True, lr=0.1, epochs=3)
    start = coop.state_dict()["ctx"]
    assert bool((by_hand.train(coop).state_dict()["ctx"] != start).flatten(2).any(2).all())


def test_only_shared_contexts_before_the_name_share_a_prefix(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """The default costs the fewest token positions; the other kinds all cost whole prompts."""
    costs = {}
    for kind, place in EVERY_KIND:
        coop = build(clip, features, class_specific=kind, name_position=place)
        before = clip.text_tokens
        coop.text_features()
        costs[kind, place] = clip.text_tokens - before
    assert len({cost for key, cost in costs.items() if key != (False, "end")}) == 1
    assert costs[False, "end"] < costs[True, "end"] / 1.5
