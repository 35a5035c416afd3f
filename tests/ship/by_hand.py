"""Helpers of the formula tests: losses in numpy, numerical gradients, and prompts by open_clip."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ship.clip import FrozenCLIP

Array = NDArray[np.float64]
Weights = Mapping[str, Array]


def check_loss(
    loss: Tensor, parameters: Mapping[str, Tensor], by_hand: Callable[[int, Weights], float]
) -> None:
    """Check losses and gradients of all seeds against a function of one seed's weights."""
    gradients = torch.autograd.grad(loss.sum(), list(parameters.values()))
    rng = np.random.default_rng(0)
    for r, value in enumerate(loss.tolist()):
        w = {name: weight.detach()[r].numpy() for name, weight in parameters.items()}
        assert value == pytest.approx(by_hand(r, w), abs=1e-9)
        for (name, weight), gradient in zip(w.items(), gradients, strict=True):
            way = rng.standard_normal(weight.shape)
            way /= np.linalg.norm(way)
            ends = [by_hand(r, {**w, name: weight + step * way}) for step in (1e-5, -1e-5)]
            slope = float((gradient[r].numpy() * way).sum())
            expected = (ends[0] - ends[1]) / 2e-5
            assert slope == pytest.approx(expected, rel=1e-5, abs=2e-8), name
            assert gradient[r].any() or not weight.size, name


def scatter(parameters: Mapping[str, Tensor], scale: float) -> None:
    """Set parameters to larger random values, so that every term of a loss matters."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for value in parameters.values():
            value.copy_(torch.from_numpy(scale * rng.standard_normal(tuple(value.shape))))


def cross_entropy(logits: Array, labels: Sequence[int], allowed: Array, weights: Array) -> float:
    """Weighted mean cross-entropy over the allowed classes."""
    odds = np.exp(logits - logits.max(1, keepdims=True)) * allowed
    p = odds / odds.sum(1, keepdims=True)
    return -float((weights * np.log(p[np.arange(len(labels)), labels])).sum() / weights.sum())


def unit(x: Array) -> Array:
    """Scale rows to norm 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def unit_rows(rng: np.random.Generator, *shape: int) -> Array:
    """Draw random features of norm 1."""
    return unit(rng.standard_normal(shape))


def prompts(
    clip: FrozenCLIP,
    ctx: Tensor,
    names: Sequence[str],
    position: str = "end",
    on_names: Tensor | None = None,
) -> tuple[Tensor, list[int]]:
    """Whole prompts of names, each with contexts (n, n_ctx, width) of its own; the place of EOT.

    on_names: is added to all tokens of a name, (n, width).
    """
    ids = clip.tokenizer
    table, n_ctx = clip._model.token_embedding.weight, ctx.shape[1]
    before = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    rows, ends = [], []
    for n, name in enumerate(names):
        words = table[ids.encode(name)]
        words = words if on_names is None else words + on_names[n]
        stop = table[[*ids.encode("."), ids.eot_token_id]]
        row = torch.cat([table[[ids.sot_token_id]], ctx[n, :before], words, ctx[n, before:], stop])
        rows.append(F.pad(row, (0, 0, 0, clip.context_length - len(row))))
        ends.append(len(row) - 1)
    return torch.stack(rows), ends


def tower(
    clip: FrozenCLIP,
    whole: Tensor,
    eot: Sequence[int],
    inner: tuple[int, int, Tensor] | None = None,
) -> Tensor:
    """Unit-norm features of untrimmed prompts, by open_clip's own blocks.

    inner: before which block, and from which place on, the given tokens take the place of others.
    """
    model = clip._model
    hidden = whole + model.positional_embedding
    for place, block in enumerate(model.transformer.resblocks):
        if inner is not None and place == inner[0]:
            start, end = inner[1], inner[1] + inner[2].shape[1]
            hidden = torch.cat([hidden[:, :start], inner[2], hidden[:, end:]], dim=1)
        hidden = block(hidden, attn_mask=model.attn_mask)
    pooled = model.ln_final(hidden)[torch.arange(len(eot)), list(eot)] @ model.text_projection
    return F.normalize(pooled, dim=-1)


def text_features(
    clip: FrozenCLIP,
    ctx: Array,
    names: Sequence[str],
    position: str = "end",
    *,
    on_names: Array | None = None,
    inner: tuple[int, int, Array] | None = None,
) -> Array:
    """Features of the prompts that contexts make with names; see prompts() and tower()."""
    added = None if on_names is None else torch.from_numpy(on_names)
    inner_tensors = None if inner is None else (*inner[:2], torch.from_numpy(inner[2]))
    with torch.no_grad():
        whole, eot = prompts(clip, torch.from_numpy(ctx.copy()), names, position, added)
        result: Array = tower(clip, whole, eot, inner_tensors).numpy()  # type: ignore[arg-type]
    return result
