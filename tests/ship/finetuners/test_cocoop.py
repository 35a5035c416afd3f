"""CoCoOp against a derivation of its own in float64, against CoOp, and in pieces."""

import numpy as np
import pytest
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.finetuners import cocoop as module
from ship.finetuners.cocoop import CoCoOp, CoCoOpConfig
from ship.finetuners.coop import CoOp, CoOpConfig
from ship.tasks.task import Task
from tests.ship.conftest import WORDS, final_task
from tests.ship.finetuners import by_hand
from tests.ship.finetuners.by_hand import Array

SEEDS = [0, 4]


def build(
    clip: FrozenCLIP,
    features: FeatureSet,
    *,
    synthetic: bool = False,
    staggered: bool = False,
    **settings: object,
) -> CoCoOp:
    """CoCoOp on the final task, its meta-net with 8 hidden units (feature size 16)."""
    task = final_task(clip, features, SEEDS, shots=3)
    if staggered:
        task = by_hand.staggered(task)
    made = by_hand.synthesizer(task, clip, SEEDS) if synthetic else None
    config = CoCoOpConfig.model_validate({"reduction": 2, **settings})
    return CoCoOp(config, task, made, clip, SEEDS)


def loss_by_hand(
    clip: FrozenCLIP,
    task: Task,
    w: dict[str, Array],
    batch: tuple[Array, list[int], Array],
    allowed: list[bool],
) -> tuple[float, dict[str, Array]]:
    """One replica's loss and its gradient at the contexts and the meta-net's weights."""
    x, labels, weights = batch
    a = x @ w["reduce.weight"] + w["reduce.bias"]
    h = np.maximum(a, 0)
    token = h @ w["expand.weight"] + w["expand.bias"]
    logits, towers = np.zeros((len(x), len(WORDS))), []
    for i in range(len(x)):
        ctx = np.broadcast_to(w["ctx"] + token[i], (len(WORDS), *w["ctx"].shape))
        prompts, eot, _ = by_hand.build_prompts(clip, ctx, "end")
        text, vjp = by_hand.tower(clip, prompts, eot)
        logits[i] = task.logit_scale * text @ x[i]
        towers.append(vjp)
    loss, d_logits = by_hand.cross_entropy(logits, labels, allowed, weights)
    n_ctx = len(w["ctx"])
    d_ctx = np.stack(  # of each picture's own context
        [
            towers[i](task.logit_scale * np.outer(d_logits[i], x[i]))[:, 1 : 1 + n_ctx].sum(0)
            for i in range(len(x))
        ]
    )
    d_token = d_ctx.sum(1)
    d_a = d_token @ w["expand.weight"].T * (a > 0)
    return loss, {
        "ctx": d_ctx.sum(0),
        "expand.weight": h.T @ d_token,
        "expand.bias": d_token.sum(0, keepdims=True),
        "reduce.weight": x.T @ d_a,
        "reduce.bias": d_a.sum(0, keepdims=True),
    }


@pytest.mark.parametrize("synthetic", [False, True])
def test_loss_and_gradient_equal_a_derivation_by_hand(
    synthetic: bool, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """For given weights and features, to 1e-9: base classes alone, or all of them, weighted."""
    cocoop = build(clip64, features, synthetic=synthetic, staggered=True)
    parameters = {"ctx": cocoop.learner.ctx, **dict(cocoop.meta_net.named_parameters())}
    for value in parameters.values():
        by_hand.scatter(value, 0.3)
    task = cocoop._task
    x, labels, weights = by_hand.random_batch(task, [0, 1, 2, 3, 5, 7] if synthetic else [2, 3])
    loss = cocoop.loss(x, labels, weights)
    loss.sum().backward()
    for replica in range(2):
        batch = (x[replica].numpy(), labels[replica].tolist(), weights[replica].numpy())
        allowed = [True] * 8 if synthetic else task.seen[replica].tolist()
        w = {name: value.detach()[replica].numpy() for name, value in parameters.items()}
        expected, gradients = loss_by_hand(clip64, task, w, batch, allowed)
        assert abs(float(loss[replica].detach()) - expected) < 1e-9
        for name, value in parameters.items():
            assert value.grad is not None
            np.testing.assert_allclose(
                value.grad[replica].numpy(), gradients[name], atol=1e-9, rtol=0, err_msg=name
            )


def test_a_token_of_zero_is_coop(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """Where the meta-net says nothing, the logits are CoOp's; where it speaks, they are not."""
    cocoop = build(clip64, features, ctx_init=None)
    coop = CoOp(CoOpConfig(ctx_init=None), cocoop._task, None, clip64, SEEDS)
    x = torch.tensor(features.test, dtype=torch.float64)
    assert not torch.allclose(cocoop.logits(x, {}), coop.logits(x, {}), atol=1e-3)
    for value in cocoop.meta_net.expand.parameters():
        torch.nn.init.zeros_(value)
    torch.testing.assert_close(cocoop.logits(x, {}), coop.logits(x, {}), atol=1e-9, rtol=0)


@pytest.mark.parametrize("prompts", [1, 24, 40])
def test_pieces_change_nothing(
    prompts: int, clip64: FrozenCLIP, features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training and logits with 1, 3 or 5 pictures at once are those of a single pass."""
    x = torch.tensor(features.test[::6], dtype=torch.float64)  # seven: pieces of unequal size

    def run() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        cocoop = build(clip64, features, synthetic=True, batch_size=4, epochs=1, lr=0.05)
        return by_hand.train(cocoop).state_dict(), cocoop.logits(x, {})

    state, logits = run()
    monkeypatch.setattr(module, "PROMPTS_AT_ONCE", prompts)
    pieced_state, pieced_logits = run()
    torch.testing.assert_close(pieced_state, state, atol=1e-10, rtol=0)
    torch.testing.assert_close(pieced_logits, logits, atol=1e-10, rtol=0)


def test_a_pass_is_bounded(
    clip: FrozenCLIP, features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pass of training or inference holds more prompts than the constant allows."""
    monkeypatch.setattr(module, "PROMPTS_AT_ONCE", 24)
    cocoop = build(clip, features, synthetic=True, batch_size=4, epochs=1)
    sizes = []
    encode = cocoop.learner.encode

    def watched(ctx: torch.Tensor) -> torch.Tensor:
        made = encode(ctx)
        sizes.append(made.shape[0] * made.shape[1])
        return made

    monkeypatch.setattr(cocoop.learner, "encode", watched)
    cocoop.train_epoch()
    cocoop.logits(torch.tensor(features.test), {})
    assert max(sizes) == 24 and sum(sizes) == (3 * 2 * 8 + 2 * len(features.test)) * 8


def test_meta_net_starts_as_torch_starts_a_linear_layer(
    clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Uniform within n_in^-1/2, biases too, another draw for each seed."""
    net = build(clip64, features).meta_net
    for layer, n_in in ((net.reduce, 16), (net.expand, 8)):
        for value in (layer.weight, layer.bias):
            scaled = value.detach() * n_in**0.5
            assert bool((scaled.abs() < 1).all()) and not torch.equal(scaled[0], scaled[1])
        assert abs(layer.weight.std().item() * (3 * n_in) ** 0.5 - 1) < 0.15
