"""The cost of passes through the frozen text tower, as ship.clip.fewest_tokens makes them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from ship.clip import SMALLEST_GROUP
from ship.cost.model import Cost, Memory
from ship.cost.shapes import TowerShape

# Tokens of a prompt -> how many prompts are that long.
Counts = Mapping[int, float]
# What gets a gradient: nothing, the shared prefix, or the prompts behind a prefix of constants.
Gradient = Literal["none", "prefix", "tails"]

# Batches drawn to average over: of 64 prompts, the mean is then within half a percent.
DRAWS = 32


def counted(lengths: Iterable[int], each: float = 1.0) -> dict[int, float]:
    """How many prompts there are of every length.

    Args:
        each: prompts for each of the lengths.
    """
    counts: dict[int, float] = {}
    for length in lengths:
        counts[length] = counts.get(length, 0.0) + each
    return counts


def shared_pass(
    tower: TowerShape,
    contexts: int,
    prefix: int,
    tails: Counts,
    gradient: Gradient,
    replicas: int,
) -> Cost:
    """TextTower.encode_shared: every one of some contexts before every tail.

    Args:
        contexts: prefixes; prefix: tokens of each.
        tails: tokens of the prompts behind the prefix, EOT included.
        replicas: of the trial, among which memory is divided.
    """
    groups = by_length(tails)
    kept = _bytes(tower, contexts, prefix, groups, gradient) / replicas
    tokens = contexts * (prefix + sum(n * t for n, t in groups))
    linear, attention, spared = _forward(tower, contexts, prefix, groups)
    own_linear, own_attention, _ = _forward(tower, contexts, prefix, ())
    back = {
        "none": 0.0,
        # what the class names are before the first layer needs no gradient
        "prefix": linear - spared + 2 * attention,
        "tails": linear - own_linear + 2 * (attention - own_attention),
    }[gradient]
    back_tokens = {"none": 0.0, "prefix": tokens, "tails": tokens - contexts * prefix}[gradient]
    flops = linear + attention + back
    return Cost(tokens, back_tokens, flops, memory=Memory(per_replica=kept))


def plain_pass(tower: TowerShape, prompts: Counts, gradient: bool, replicas: int) -> Cost:
    """TextTower.encode: prompts that have SOT alone in common.

    Args:
        prompts: tokens of the prompts behind SOT, EOT included.
    """
    return shared_pass(tower, 1, 1, prompts, "tails" if gradient else "none", replicas)


def drawn_pass(
    tower: TowerShape,
    n: int,
    lengths: Sequence[int],
    shares: Sequence[float],
    gradient: bool,
    replicas: int,
) -> Cost:
    """plain_pass of n prompts whose classes are drawn at random, in expectation.

    Lengths are padded within groups (ship.clip.fewest_tokens.by_length), so that the mean length is
    not enough: DRAWS batches are drawn, always the same ones.

    Args:
        lengths, shares: of each class, the prompt's tokens and the probability that it is drawn.
    """
    kinds = sorted({length for length, share in zip(lengths, shares, strict=True) if share})
    weight = np.zeros(len(kinds))
    for length, share in zip(lengths, shares, strict=True):
        if share:
            weight[kinds.index(length)] += share
    draws = np.random.default_rng(0).multinomial(n, weight / weight.sum(), DRAWS)
    total = Cost()
    for draw in draws.tolist():
        prompts = dict(zip(kinds, map(float, draw), strict=True))
        total += plain_pass(tower, prompts, gradient, replicas)
    return total.times(1 / DRAWS)


def by_length(counts: Counts) -> list[tuple[float, int]]:
    """(prompts, tokens of each) of the groups that ship.clip.fewest_tokens.by_length makes."""
    groups: list[tuple[float, int]] = []
    pending = 0.0
    for length in sorted(length for length, n in counts.items() if n):
        pending += counts[length]
        if pending >= SMALLEST_GROUP:
            groups.append((pending, length))
            pending = 0.0
    if pending:
        groups.append((pending, max(length for length, n in counts.items() if n)))
    return groups


def _forward(
    tower: TowerShape, contexts: int, prefix: int, groups: Sequence[tuple[float, int]]
) -> tuple[float, float, float]:
    """Operations of the products with weights, of attention, and of the tails' first projection.

    The prefix's last layer stops at keys and values; the tails' last layer runs at EOT alone. In
    the first layer the tails are the same for every context.
    """
    d, layers = tower.width, tower.layers
    # a token's multiplications and additions: query, key or value; all behind attention
    one, behind = 2.0 * d * d, 2 * d * d + 4 * d * tower.mlp_width
    linear = contexts * prefix * (layers * 3 * one + (layers - 1) * behind)
    attention = 4.0 * (layers - 1) * contexts * prefix**2 * d
    spared = 0.0
    for n, t in groups:
        rows, pooled = contexts * n * t, contexts * n
        if layers > 1:
            spared += n * t * 3 * one
            linear += n * t * 3 * one + (layers - 2) * rows * 3 * one + rows * 2 * one
        else:
            linear += n * t * 2 * one
        linear += (layers - 1) * rows * behind + pooled * (one + behind)
        linear += pooled * 2 * d * tower.feature_dim
        attention += ((layers - 1) * rows + pooled) * (prefix + t) * 4 * d
    return linear, attention, spared


def _bytes(
    tower: TowerShape,
    contexts: int,
    prefix: int,
    groups: Sequence[tuple[float, int]],
    gradient: Gradient,
) -> float:
    """Bytes that a pass keeps for its backward pass, or that are alive at once without one.

    Of a token and layer: both norms' inputs, query, attention's output, and what the activation
    function keeps (twice the MLP's width: QuickGELU's; GELU keeps half); of a prompt its keys and
    values, the prefix's copied before its own.
    """
    d, layers = tower.width, tower.layers
    token = 4 * d + 2 * tower.mlp_width
    if gradient == "none":
        largest = max((n * ((prefix + t) * 2 * d + t * token) for n, t in groups), default=0.0)
        held = layers * prefix * 2 * d
        return contexts * tower.element_bytes * (held + largest)
    total = 0.0
    for n, t in groups:
        total += n * ((layers - 1) * t * token + layers * (prefix + t) * 2 * d + t * d + token)
    if gradient == "prefix":
        total += layers * prefix * (token + 2 * d)
    return contexts * tower.element_bytes * total
