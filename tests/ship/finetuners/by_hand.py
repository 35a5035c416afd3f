"""What the golden tests of prompt learning share: numpy in float64, and no torch autograd but in
the frozen text tower, which enters as a function with its vector-Jacobian product."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ship.clip.frozen_clip import FrozenCLIP
from ship.generators.controls import GaussianText, GaussianTextConfig
from ship.synthesis import Synthesizer, SyntheticConfig
from ship.tasks.task import Task
from tests.ship.conftest import WORDS

Array = NDArray[np.float64]


def tower(clip: FrozenCLIP, prompts: Array, eot: list[int]) -> tuple[Array, Callable[..., Array]]:
    """Unit-norm features of prompts by open_clip's own modules, untrimmed; and their VJP."""
    model = clip._model
    padded = np.zeros((len(prompts), clip.context_length, prompts.shape[2]))
    padded[:, : prompts.shape[1]] = prompts
    leaf = torch.from_numpy(padded).requires_grad_()
    hidden = model.transformer(leaf + model.positional_embedding, attn_mask=model.attn_mask)
    pooled = model.ln_final(hidden)[torch.arange(len(eot)), eot] @ model.text_projection
    features = pooled / pooled.square().sum(1, keepdim=True).sqrt()

    def vjp(d_features: Array) -> Array:
        (d_leaf,) = torch.autograd.grad(features, leaf, torch.from_numpy(d_features))
        return d_leaf.numpy()[:, : prompts.shape[1]]

    return features.detach().numpy(), vjp


def build_prompts(
    clip: FrozenCLIP, ctx: Array, position: str
) -> tuple[Array, list[int], list[list[int]]]:
    """Prompts of all classes, the place of each EOT, and the places of the context vectors.

    ctx: (n_cls, n_ctx, width); a class's own, or the shared one repeated.
    """
    table = clip._model.token_embedding.weight.detach().numpy()
    before = {"end": ctx.shape[1], "middle": ctx.shape[1] // 2, "front": 0}[position]
    longest = 3 + ctx.shape[1] + max(len(clip.tokenizer.encode(name)) for name in WORDS)
    prompts, eot = np.zeros((len(WORDS), longest, ctx.shape[2])), []
    places = []
    for row, name in enumerate(WORDS):
        words = table[clip.tokenizer.encode(name)]
        start = table[[clip.tokenizer.sot_token_id]]
        stop = table[[*clip.tokenizer.encode("."), clip.tokenizer.eot_token_id]]
        prompt = np.concatenate([start, ctx[row, :before], words, ctx[row, before:], stop])
        prompts[row, : len(prompt)] = prompt
        eot.append(len(prompt) - 1)
        behind = range(1 + before + len(words), 1 + ctx.shape[1] + len(words))
        places.append([*range(1, 1 + before), *behind])
    return prompts, eot, places


def cross_entropy(
    logits: Array, labels: list[int], allowed: list[bool], weights: Array
) -> tuple[float, Array]:
    """Weighted mean cross-entropy over the allowed classes, and its gradient at the logits."""
    odds = np.exp(logits - logits.max(1, keepdims=True)) * np.array(allowed)
    p = odds / odds.sum(1, keepdims=True)
    share = weights / weights.sum()
    loss = -(share * np.log(p[np.arange(len(labels)), labels])).sum()
    return float(loss), share[:, None] * (p - np.eye(len(allowed))[labels])


def coop_loss(
    clip: FrozenCLIP,
    task: Task,
    ctx: Array,
    position: str,
    batch: tuple[Array, list[int], Array],
    allowed: list[bool],
    kg_weight: float = 0.0,
) -> tuple[float, Array]:
    """CoOp's loss of one replica (+ kg_weight * KgCoOp's distance), and d loss / d ctx.

    ctx: (n_ctx, width), or class-specific (n_cls, n_ctx, width).
    """
    x, labels, weights = batch
    per_class = np.broadcast_to(ctx, (len(WORDS), *ctx.shape[-2:]))
    prompts, eot, places = build_prompts(clip, per_class, position)
    text, vjp = tower(clip, prompts, eot)
    loss, d_logits = cross_entropy(task.logit_scale * x @ text.T, labels, allowed, weights)
    d_text = task.logit_scale * d_logits.T @ x
    gap = (text - task.text_features.numpy()) * np.array(allowed)[:, None] / sum(allowed)
    loss += kg_weight * ((text - task.text_features.numpy()) * gap).sum()
    d_prompts = vjp(d_text + 2 * kg_weight * gap)
    d_ctx = np.stack([row[place] for row, place in zip(d_prompts, places, strict=True)])
    return loss, d_ctx if ctx.ndim == 3 else d_ctx.sum(0)


def synthesizer(task: Task, clip: FrozenCLIP, seeds: list[int]) -> Synthesizer:
    """Noisy text features of the unseen classes, at half a real feature's weight."""
    generator = GaussianText(GaussianTextConfig(scale=0.1), task, clip, seeds)
    return Synthesizer(SyntheticConfig(weight=0.5), generator, task, seeds)


def staggered(task: Task) -> Task:
    """The task with other classes seen by its second replica: 2 to 5 instead of 0 to 3."""
    seen = torch.stack([task.seen[0], task.seen[1].roll(2)])
    return dataclasses.replace(task, seen=seen)


def random_batch(
    task: Task, classes: list[int], n: int = 5
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit-norm features, labels among the given classes, and unequal weights, for two replicas."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, n, task.text_features.shape[1]))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    labels = torch.from_numpy(rng.choice(classes, (2, n)))
    return torch.from_numpy(x), labels, torch.from_numpy(rng.uniform(0.2, 1.0, (2, n)))


def scatter(parameter: torch.Tensor, scale: float) -> None:
    """Give a parameter larger, random values, so that every term of a loss matters."""
    rng = np.random.default_rng(parameter.numel())
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(scale * rng.standard_normal(tuple(parameter.shape))))


def train(finetuner: Any) -> Any:
    """All epochs."""
    for _ in range(finetuner.epochs):
        finetuner.train_epoch()
    return finetuner
