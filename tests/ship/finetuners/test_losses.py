"""Losses and gradients of all trained fine-tuners equal the papers' formulas."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from ship.clip import FrozenCLIP
from ship.configs import FINETUNERS
from ship.subsets import FeatureSet
from ship.tasks import Task
from tests.ship.by_hand import (
    Array,
    Weights,
    check_loss,
    cross_entropy,
    scatter,
    text_features,
    unit,
    unit_rows,
)
from tests.ship.conftest import selection_task
from tests.ship.finetuners.cases import SEEDS, built


@dataclass(frozen=True)
class Rows:
    """Batch of one seed. `allowed` masks the classes of the loss with 1."""

    clip: FrozenCLIP
    task: Task
    seed_index: int
    x: Array
    labels: list[int]
    weights: Array
    synthetic: bool

    @property
    def seen(self) -> Array:
        return self.task.seen[self.seed_index].double().numpy()

    @property
    def allowed(self) -> Array:
        return np.ones(len(self.seen)) if self.synthetic else self.seen

    @property
    def text(self) -> Array:
        """Of the hand-written prompts."""
        return self.task.text_features.numpy()

    def loss(self, logits: Array) -> float:
        return cross_entropy(logits, self.labels, self.allowed, self.weights)

    def by_text(self, text: Array) -> float:
        """Of cosines to text features."""
        return self.loss(self.task.logit_scale * self.x @ text.T)

    def prompted(self, ctx: Array, position: str = "end", inner: Any = None) -> Array:
        """Text features of contexts, shared or of each class."""
        each = np.broadcast_to(ctx, (len(self.text), *ctx.shape[-2:]))
        return text_features(self.clip, each, self.task.class_names, position, inner=inner)

    def distance(self, text: Array) -> float:
        """KgCoOp's: mean over the allowed classes of |t - t_written|^2."""
        return float(((text - self.text) ** 2).sum(1) @ self.allowed / self.allowed.sum())


def kgcoop(weight: float, position: str = "end") -> Callable[[Rows, Weights], float]:
    """CoOp's loss (arXiv:2109.01134), and KgCoOp's distance (arXiv:2303.13283)."""

    def formula(rows: Rows, w: Weights) -> float:
        text = rows.prompted(w["ctx"], position)
        return rows.by_text(text) + weight * rows.distance(text)

    return formula


def dept(weight: float) -> Callable[[Rows, Weights], float]:
    """0.4 of the prompts' and 0.6 of the head's loss, over the authors' two sets of rows."""

    def formula(rows: Rows, w: Weights) -> float:
        text = rows.prompted(w["ctx"])
        seen_rows = [i for i, label in enumerate(rows.labels) if rows.seen[label]]
        labels = [rows.labels[i] for i in seen_rows]
        stacks = {"head.text": 10 * text[labels], "head.image": 10 * rows.x[seen_rows]}
        z = np.concatenate([w[kind][0] * raw + w[kind][1] for kind, raw in stacks.items()])
        logits = z @ w["head.weight"] + w["head.bias"]
        by_head = cross_entropy(logits, labels * 2, rows.seen, np.tile(rows.weights[seen_rows], 2))
        return 0.4 * rows.by_text(text) + 0.6 * by_head + weight * rows.distance(text)

    return formula


def cocoop(rows: Rows, w: Weights) -> float:
    """Each image's token is added to all contexts (arXiv:2203.05557)."""
    hidden = np.maximum(rows.x @ w["reduce.weight"] + w["reduce.bias"], 0)
    tokens = hidden @ w["expand.weight"] + w["expand.bias"]
    logits = [rows.prompted(w["ctx"] + token) @ x for token, x in zip(tokens, rows.x, strict=True)]
    return rows.loss(rows.task.logit_scale * np.stack(logits))


def tcp(depth: int) -> Callable[[Rows, Weights], float]:
    """Tokens from the written text feature replace the contexts (arXiv:2311.18231)."""

    def formula(rows: Rows, w: Weights) -> float:
        a = rows.text @ w["net.reduce.weight"] + w["net.reduce.bias"]
        tokens = a / (1 + np.exp(-1.702 * a)) @ w["net.expand.weight"] + w["net.expand.bias"]
        inner = (depth, 1, tokens.reshape(len(tokens), *w["ctx"].shape))
        text = rows.prompted(w["ctx"], inner=inner)
        return rows.by_text(text) + 3 * rows.distance(text)

    return formula


def clip_adapter(rows: Rows, w: Weights) -> float:
    """arXiv:2110.04544, sec. 3.2, at ratio 0.3."""
    adapted = np.maximum(np.maximum(rows.x @ w["down"], 0) @ w["up"], 0)
    mixed = unit(0.3 * adapted + 0.7 * rows.x)
    return rows.loss(rows.task.logit_scale * mixed @ rows.text.T)


def linear_adapter(rows: Rows, w: Weights) -> float:
    """Cosines of mapped features, and 0.7 / 3 shots of |W - I|^2 (arXiv:2410.05270)."""
    logits = rows.task.logit_scale * unit(rows.x @ w["map"]) @ rows.text.T
    return rows.loss(logits) + 0.7 / 3 * float(((w["map"] - np.eye(len(w["map"]))) ** 2).sum())


def linear_probe(rows: Rows, w: Weights) -> float:
    """Logistic regression with a ridge around the text features."""
    logits = rows.task.logit_scale * rows.x @ w["weight"].T + w["bias"]
    return rows.loss(logits) + 0.7 / 2 * float(((w["weight"] - rows.text) ** 2).sum())


def zs_lp(rows: Rows, w: Weights) -> float:
    """Cosines to the weights (arXiv:2312.12730, sec. 3)."""
    return rows.by_text(unit(w["weight"]))


def clap(rows: Rows, w: Weights) -> float:
    """And 0.6 times the mean of lambda_c |w_c - 3 t_c|^2 (sec. 4).

    lambda_c: mean probability of its class over all views of a class's images; where others are
    synthesized, theirs is the mean of these.
    """
    task, r = rows.task, rows.seed_index
    rows_by_class: dict[int, list[float]] = {}
    for place in range(task.counts[r]):
        label = int(task.labels[r, place])
        for x in task.features[r, place].numpy():
            odds = np.exp(task.logit_scale * rows.text @ x) * rows.allowed
            rows_by_class.setdefault(label, []).append(odds[label] / odds.sum())
    means = {label: np.mean(p) for label, p in rows_by_class.items()}
    rest = np.mean(list(means.values())) if rows.synthetic else 0
    multipliers = np.array([means.get(c, rest) for c in range(len(rows.text))])
    apart = ((w["weight"] - 3 * rows.text) ** 2).sum(1)
    return zs_lp(rows, w) + 0.6 * float(multipliers @ apart / rows.allowed.sum())


def tip_adapter_f(rows: Rows, w: Weights) -> float:
    """Zero-shot and cache logits (arXiv:2207.09519, eq. 4); weights divided by their mean."""
    task, r = rows.task, rows.seed_index
    actual = np.repeat(task.synthetic_ids[r].numpy(), 3 if rows.synthetic else 0)
    values = np.eye(len(rows.text))[[*actual, *task.labels[r].tolist()]]
    affinity = np.exp(-3.0 * (1 - rows.x @ w["cache.keys"].T))
    loss = rows.loss(task.logit_scale * rows.x @ rows.text.T + 2.0 * affinity @ values)
    n = task.counts[r]
    return loss * rows.weights.mean() / ((n + 0.5 * len(actual)) / (n + len(actual)))


CONTEXTS = {"n_ctx": 3, "ctx_init": None}
CASES: dict[str, tuple[str, dict[str, Any], Callable[[Rows, Weights], float]]] = {
    **{
        f"coop {kind} {place}": (
            "coop",
            {"n_ctx": 3, "class_specific": kind == "own", "name_position": place},
            kgcoop(0, place),
        )
        for kind in ("shared", "own")
        for place in ("end", "middle", "front")
    },
    "kgcoop": ("kgcoop", {**CONTEXTS, "kg_weight": 3.0}, kgcoop(3)),
    "coop_dept": ("coop_dept", {**CONTEXTS, "head_weight": 0.6}, dept(0)),
    "kgcoop_dept": ("kgcoop_dept", {**CONTEXTS, "head_weight": 0.6, "kg_weight": 3.0}, dept(3)),
    "cocoop": ("cocoop", {"reduction": 2}, cocoop),
    "tcp": ("tcp", {"n_ctx": 3, "kg_weight": 3.0}, tcp(2)),
    "tcp layer 1": ("tcp", {"n_ctx": 3, "kg_weight": 3.0, "layer": 1}, tcp(1)),
    "clip_adapter": ("clip_adapter", {"ratio": 0.3}, clip_adapter),
    "linear_adapter": ("linear_adapter", {"penalty_weight": 0.7}, linear_adapter),
    "linear_probe": ("linear_probe", {"l2": 0.7}, linear_probe),
    "zs_lp": ("zs_lp", {"init_norm": 3}, zs_lp),
    "clap": ("clap", {"init_norm": 3, "penalty_weight": 0.6}, clap),
    "tip_adapter_f": ("tip_adapter_f", {"alpha": 2.0, "beta": 3.0}, tip_adapter_f),
}


def test_every_trained_finetuner_has_a_formula() -> None:
    """Exceptions are untrained fine-tuners and lp_plus_plus, which has another test."""
    without_loss = {"zero_shot", "tip_adapter", "gda", "lp_plus_plus"}
    assert {name for name, _, _ in CASES.values()} | without_loss == set(FINETUNERS)


@pytest.mark.parametrize("synthetic", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_equal_the_formula(
    case: str, synthetic: bool, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Over the seen classes, which differ between seeds, or over all classes with weights."""
    name, settings, formula = CASES[case]
    task = selection_task(clip64, features, SEEDS, shots=3)
    assert not torch.equal(task.seen[0], task.seen[1])
    finetuner = built(name, settings, task, clip64, 0.5 if synthetic else None)
    parameters = finetuner.stack.trained
    scatter(parameters, 0.3)
    rng = np.random.default_rng(0)
    x = unit_rows(rng, 2, 6, task.text_features.shape[1])
    weights = rng.uniform(0.2, 1.0, (2, 6)) if synthetic else np.ones((2, 6))
    shown = [range(len(seen)) if synthetic else np.flatnonzero(seen) for seen in task.seen]
    labels = [[int(ids[i % len(ids)]) for i in range(6)] for ids in shown]

    def by_hand(r: int, w: Weights) -> float:
        return formula(Rows(clip64, task, r, x[r], labels[r], weights[r], synthetic), w)

    weight_tensor = torch.from_numpy(weights) if synthetic else None
    loss = finetuner.loss(torch.from_numpy(x), torch.tensor(labels), weight_tensor)
    check_loss(loss, parameters, by_hand)
