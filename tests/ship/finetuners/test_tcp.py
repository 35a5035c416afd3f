"""TCP against a derivation of its own in float64, and where its classes' tokens come from."""

from typing import Any

import numpy as np
import pytest
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.finetuners.tcp import TCP, TCPConfig, inner_depth
from ship.tasks.task import Task
from tests.ship.conftest import build_features, final_task
from tests.ship.finetuners import by_hand
from tests.ship.finetuners.by_hand import Array

SEEDS = [0, 4]
N_CTX = 3


def build(
    clip: FrozenCLIP, features: FeatureSet, *, synthetic: bool = False, **settings: Any
) -> TCP:
    """TCP on the final task, whose second replica sees other classes."""
    task = by_hand.staggered(final_task(clip, features, SEEDS, shots=3))
    made = by_hand.synthesizer(task, clip, SEEDS) if synthetic else None
    return TCP(TCPConfig(n_ctx=N_CTX, **settings), task, made, clip, SEEDS)


def parameters(tcp: TCP) -> dict[str, torch.Tensor]:
    """By name; all that is trained."""
    return {"ctx": tcp.learner.ctx, **dict(tcp.net.named_parameters())}


def tower(
    clip: FrozenCLIP, prompts: Array, tokens: Array, eot: list[int], depth: int
) -> tuple[Array, Any]:
    """Features by open_clip's own blocks, untrimmed; tokens replace places 1 to 3. And the VJP."""
    model = clip._model
    padded = np.zeros((len(prompts), clip.context_length, prompts.shape[2]))
    padded[:, : prompts.shape[1]] = prompts
    leaves = [torch.from_numpy(x).requires_grad_() for x in (padded, tokens)]
    hidden = leaves[0] + model.positional_embedding
    for place, block in enumerate(model.transformer.resblocks):
        if place == depth:
            hidden = torch.cat([hidden[:, :1], leaves[1], hidden[:, 1 + N_CTX :]], dim=1)
        hidden = block(hidden, attn_mask=model.attn_mask)
    pooled = model.ln_final(hidden)[torch.arange(len(eot)), eot] @ model.text_projection
    features = pooled / pooled.square().sum(1, keepdim=True).sqrt()

    def vjp(d_features: Array) -> list[Array]:
        found = torch.autograd.grad(features, leaves, torch.from_numpy(d_features))
        return [d.numpy() for d in found]

    return features.detach().numpy(), vjp


def loss_by_hand(
    clip: FrozenCLIP,
    task: Task,
    w: dict[str, Array],
    batch: tuple[Array, list[int], Array],
    allowed: list[bool],
    weight: float,
    depth: int,
) -> tuple[float, dict[str, Array]]:
    """One replica's loss and its gradients."""
    x, labels, weights = batch
    written = task.text_features.numpy()
    a = written @ w["reduce.weight"] + w["reduce.bias"]
    gate = 1 / (1 + np.exp(-1.702 * a))
    h = a * gate
    tokens = (h @ w["expand.weight"] + w["expand.bias"]).reshape(8, N_CTX, -1)
    per_class = np.broadcast_to(w["ctx"], (8, *w["ctx"].shape))
    prompts, eot, places = by_hand.build_prompts(clip, per_class, "end")
    text, vjp = tower(clip, prompts, tokens, eot, depth)
    scale = task.logit_scale
    loss, d_logits = by_hand.cross_entropy(scale * x @ text.T, labels, allowed, weights)
    gap = (text - written) * np.array(allowed)[:, None] / sum(allowed)
    d_prompts, d_tokens = vjp(scale * d_logits.T @ x + 2 * weight * gap)
    d_made = d_tokens.reshape(8, -1)
    d_a = d_made @ w["expand.weight"].T * (gate + 1.702 * a * gate * (1 - gate))
    return loss + weight * ((text - written) * gap).sum(), {
        "ctx": np.sum([row[place] for row, place in zip(d_prompts, places, strict=True)], axis=0),
        "expand.weight": h.T @ d_made,
        "expand.bias": d_made.sum(0, keepdims=True),
        "reduce.weight": written.T @ d_a,
        "reduce.bias": d_a.sum(0, keepdims=True),
    }


@pytest.mark.parametrize(("layer", "depth"), [(None, 2), (1, 1)])
@pytest.mark.parametrize("synthetic", [False, True])
def test_loss_and_gradient_equal_a_derivation_by_hand(
    synthetic: bool, layer: int | None, depth: int, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """To 1e-9; without synthetic features the loss and the distance run over base classes."""
    tcp = build(clip64, features, synthetic=synthetic, weight=3.0, layer=layer)
    task = tcp._task
    for value in parameters(tcp).values():
        by_hand.scatter(value, 0.3)
    x, labels, weights = by_hand.random_batch(task, [0, 1, 2, 3, 5, 7] if synthetic else [2, 3])
    loss = tcp.loss(x, labels, weights)
    loss.sum().backward()
    for r in range(2):
        batch = (x[r].numpy(), labels[r].tolist(), weights[r].numpy())
        allowed = [True] * 8 if synthetic else task.seen[r].tolist()
        w = {name: value.detach()[r].numpy() for name, value in parameters(tcp).items()}
        expected, gradients = loss_by_hand(clip64, task, w, batch, allowed, 3.0, depth)
        assert abs(float(loss[r].detach()) - expected) < 1e-9
        for name, value in parameters(tcp).items():
            assert value.grad is not None
            np.testing.assert_allclose(
                value.grad[r].numpy(), gradients[name], atol=1e-9, rtol=0, err_msg=name
            )


def test_training_is_adam_with_the_authors_epsilon(clip64: FrozenCLIP) -> None:
    """The first step is rate * g / (|g| + epsilon) of everything that is trained."""
    tcp = build(clip64, build_features(clip64, views=0), lr=0.05, epochs=1, batch_size=256)
    task = tcp._task
    tcp.loss(task.features[:, :, 0], task.labels).sum().backward()
    expected = {}
    for name, value in parameters(tcp).items():
        assert value.grad is not None and bool((value.grad != 0).any())
        expected[name] = value.detach() - 0.05 * value.grad / (value.grad.abs() + 1e-3)
    tcp.train_epoch()
    for name, value in parameters(tcp).items():
        torch.testing.assert_close(value.detach(), expected[name], atol=1e-8, rtol=0)


def test_a_class_has_its_tokens_from_its_name(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """Another text feature changes the classifier of that class alone, seen or not."""
    tcp = build(clip64, features)
    before = tcp.text_features().detach()
    tcp._task.text_features[6].mul_(-1)
    changed = (tcp.text_features().detach() - before).abs().amax((0, 2)) > 1e-6
    assert changed.tolist() == [c == 6 for c in range(8)]


def test_the_tower_has_a_block_before_and_one_behind(clip64: FrozenCLIP) -> None:
    """Two thirds of the way unless it is said; a layer that is not there is named."""
    assert [inner_depth(layer, clip64) for layer in (None, 1, 2)] == [2, 1, 2]
    with pytest.raises(ValueError, match="layer must be 1 to 2 for backbone 'tiny', whose text"):
        inner_depth(3, clip64)
    assert inner_depth(None, FrozenCLIP.load("ViT-B-16-quickgelu:random")) == 8
