"""DePT against a derivation of its own in float64, and what its head may and may not change."""

from typing import Any

import numpy as np
import pytest
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.finetuners.coop import CoOp, CoOpConfig
from ship.finetuners.dept import CoOpDePT, CoOpDePTConfig, KgCoOpDePT, KgCoOpDePTConfig
from ship.finetuners.kgcoop import KgCoOp, KgCoOpConfig
from ship.tasks.task import Task
from tests.ship.conftest import build_features, final_task
from tests.ship.finetuners import by_hand
from tests.ship.finetuners.by_hand import Array

SEEDS = [0, 4]


def build(
    clip: FrozenCLIP,
    features: FeatureSet,
    *,
    synthetic: bool = False,
    staggered: bool = False,
    kg: float = 0.0,
    **settings: Any,
) -> CoOpDePT:
    """DePT on the final task: four base classes with three pictures, four new ones."""
    task = final_task(clip, features, SEEDS, shots=3)
    if staggered:
        task = by_hand.staggered(task)
    made = by_hand.synthesizer(task, clip, SEEDS) if synthetic else None
    shared = {"n_ctx": 3, "ctx_init": None, **settings}
    if kg:
        return KgCoOpDePT(KgCoOpDePTConfig(weight=kg, **shared), task, made, clip, SEEDS)
    return CoOpDePT(CoOpDePTConfig(**shared), task, made, clip, SEEDS)


def parameters(dept: CoOpDePT) -> dict[str, torch.Tensor]:
    """By name; all that is trained."""
    return {"ctx": dept.learner.ctx, **dict(dept.head.named_parameters())}


def loss_by_hand(
    clip: FrozenCLIP,
    task: Task,
    w: dict[str, Array],
    batch: tuple[Array, list[int], Array],
    allowed: list[bool],
    seen: list[bool],
    share: float,
    kg: float,
) -> tuple[float, dict[str, Array]]:
    """One replica's loss, each row of the head's as the authors stack them, and its gradients."""
    x, labels, weights = batch
    per_class = np.broadcast_to(w["ctx"], (8, *w["ctx"].shape))
    prompts, eot, places = by_hand.build_prompts(clip, per_class, "end")
    text, vjp = by_hand.tower(clip, prompts, eot)
    scale = task.logit_scale
    loss, d_logits = by_hand.cross_entropy(scale * x @ text.T, labels, allowed, weights)
    loss *= 1 - share
    d_text = (1 - share) * scale * d_logits.T @ x
    rows = [i for i, label in enumerate(labels) if seen[label]]
    own = [labels[i] for i in rows]
    raw = {"text": 10 * text[own], "picture": 10 * x[rows]}
    moved = {kind: w[kind][0] * raw[kind] + w[kind][1] for kind in raw}
    z = np.concatenate([moved["text"], moved["picture"]])
    by_head, d = by_hand.cross_entropy(
        z @ w["weight"] + w["bias"], own * 2, seen, np.tile(weights[rows], 2)
    )
    d_z = share * d @ w["weight"].T
    parts = {"text": d_z[: len(rows)], "picture": d_z[len(rows) :]}
    gradients = {
        kind: np.stack([(part * raw[kind]).sum(0), part.sum(0)])[:, None]
        for kind, part in parts.items()
    }
    np.add.at(d_text, own, 10 * parts["text"] * w["text"][0])
    gap = (text - task.text_features.numpy()) * np.array(allowed)[:, None] / sum(allowed)
    loss += share * by_head + kg * ((text - task.text_features.numpy()) * gap).sum()
    d_prompts = vjp(d_text + 2 * kg * gap)
    d_ctx = sum(row[place] for row, place in zip(d_prompts, places, strict=True))
    assert isinstance(d_ctx, np.ndarray)
    bias = share * d.sum(0, keepdims=True)
    return loss, {"ctx": d_ctx, "weight": share * z.T @ d, "bias": bias, **gradients}


@pytest.mark.parametrize("kg", [0.0, 3.0])
@pytest.mark.parametrize("synthetic", [False, True])
def test_loss_and_gradient_equal_a_derivation_by_hand(
    synthetic: bool, kg: float, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """To 1e-9; synthetic features are of new classes and do not reach the head."""
    dept = build(clip64, features, synthetic=synthetic, staggered=True, kg=kg, head_weight=0.6)
    task = dept._task
    for value in parameters(dept).values():
        by_hand.scatter(value, 0.3)
    x, labels, weights = by_hand.random_batch(task, [0, 1, 2, 3, 5, 7] if synthetic else [2, 3])
    if synthetic:
        labels[:, :2] = torch.tensor([2, 7])  # a row of either kind in both replicas
    loss = dept.loss(x, labels, weights)
    loss.sum().backward()
    for r in range(2):
        seen = task.seen[r].tolist()
        batch = (x[r].numpy(), labels[r].tolist(), weights[r].numpy())
        w = {name: value.detach()[r].numpy() for name, value in parameters(dept).items()}
        allowed = [True] * 8 if synthetic else seen
        expected, gradients = loss_by_hand(clip64, task, w, batch, allowed, seen, 0.6, kg)
        assert abs(float(loss[r].detach()) - expected) < 1e-9
        for name, value in parameters(dept).items():
            assert value.grad is not None
            np.testing.assert_allclose(
                value.grad[r].numpy(), gradients[name], atol=1e-9, rtol=0, err_msg=name
            )


def test_base_is_fused_and_new_is_the_prompts_alone(
    clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """And in one softmax the base classes have together what the prompts give them."""
    dept = build(clip64, features, staggered=True, head_weight=0.6)
    for value in parameters(dept).values():
        by_hand.scatter(value, 0.3)
    x = torch.tensor(features.test, dtype=torch.float64)
    found, seen = dept.logits(x, {}), dept._task.seen
    prompt = dept._task.logit_scale * x @ dept.text_features().detach().transpose(1, 2)
    for r in range(2):
        w = {name: value.detach()[r] for name, value in parameters(dept).items()}
        head = (w["picture"][0] * 10 * x + w["picture"][1]) @ w["weight"] + w["bias"]
        base = seen[r].nonzero()[:, 0]
        fused = (0.4 * prompt[r] + 0.6 * head)[:, base]
        torch.testing.assert_close(found[r][:, base].softmax(1), fused.softmax(1))
        torch.testing.assert_close(found[r][:, ~seen[r]], prompt[r][:, ~seen[r]])
        mass, of_prompt = (z[r].softmax(1)[:, base].sum(1) for z in (found, prompt))
        torch.testing.assert_close(mass, of_prompt)
        assert bool((fused.argmax(1) != prompt[r][:, base].argmax(1)).any())


@pytest.mark.parametrize("kg", [0.0, 3.0])
def test_without_weight_it_is_the_prompts(
    kg: float, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """CoOp or KgCoOp, from the same start and on the same batches."""
    settings = {"lr": 0.05, "epochs": 4, "batch_size": 3, "n_ctx": 3, "ctx_init": None}
    dept = build(clip64, features, synthetic=True, kg=kg, head_weight=0.0, **settings)
    task = final_task(clip64, features, SEEDS, shots=3)
    made = by_hand.synthesizer(task, clip64, SEEDS)
    plain: CoOp | KgCoOp = CoOp(CoOpConfig(**settings), task, made, clip64, SEEDS)  # type: ignore[arg-type]
    if kg:
        plain = KgCoOp(KgCoOpConfig(weight=kg, **settings), task, made, clip64, SEEDS)  # type: ignore[arg-type]
    x = torch.tensor(features.test, dtype=torch.float64)
    ours, theirs = (by_hand.train(f).logits(x, {}) for f in (dept, plain))
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


def test_the_head_has_a_rate_of_its_own(clip64: FrozenCLIP) -> None:
    """A step on all pictures: each parameter less its rate times its gradient."""
    dept = build(clip64, build_features(clip64, views=0), lr=0.05, epochs=1, batch_size=256)
    task = dept._task
    dept.loss(task.features[:, :, 0], task.labels).sum().backward()
    expected = {}
    for name, value in parameters(dept).items():
        assert value.grad is not None
        expected[name] = value.detach() - (0.05 if name == "ctx" else 6.5 * 0.05) * value.grad
    dept.train_epoch()
    for name, value in parameters(dept).items():
        torch.testing.assert_close(value.detach(), expected[name], atol=1e-9, rtol=0)
