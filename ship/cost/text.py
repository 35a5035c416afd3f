"""The cost of passes through the frozen text tower, as ship.clip.text_tower makes them on a CPU."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ship.clip import SEQUENCE, SMALLEST_GROUP, sequences
from ship.cost.model import Cost, Memory
from ship.cost.shapes import TowerShape

# Tokens of a prompt -> how many prompts are that long.
Counts = Mapping[int, float]

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
    gradient: bool,
    replicas: int,
) -> Cost:
    """TextTower.encode_shared: every one of some contexts before every tail.

    Args:
        contexts: prefixes; prefix: tokens of each.
        tails: tokens of the names behind the prefix, EOT included.
        gradient: whether one goes back to the prefixes.
        replicas: of the trial, among which memory is divided.
    """
    if not tails:
        return Cost()
    lengths = tuple(length for length in sorted(tails) for _ in range(round(tails[length])))
    n, room, most = _packed(lengths, prefix)
    batch = _Batch(contexts * n, prefix + room, most, contexts * len(lengths))
    return _cost(tower, [batch], gradient, replicas)


def inner_pass(
    tower: TowerShape, replicas: int, n_ctx: int, tails: Counts, depth: int, gradient: bool
) -> Cost:
    """TextTower.encode_shared with InnerTokens in place of all contexts, one context a replica.

    Args:
        n_ctx: context vectors. tails, gradient, replicas: as of shared_pass.
        depth: blocks before the tokens.
    """
    lengths = tuple(length for length in sorted(tails) for _ in range(round(tails[length])))
    n, room, _ = _packed(lengths, 1 + n_ctx)
    whole = _Batch(replicas * n, 1 + n_ctx + room, 1 + n_ctx + room, 0)
    first = _cost(replace(tower, layers=depth), [whole], gradient, replicas)
    rest = replace(tower, layers=tower.layers - depth)
    own = {n_ctx + length: count for length, count in tails.items()}
    second = shared_pass(rest, replicas, 1, own, gradient, replicas)
    tokens = (depth * first.text_tokens + rest.layers * second.text_tokens) / tower.layers
    memory = Memory(per_replica=first.memory.per_replica + second.memory.per_replica)
    flops = first.text_flops + second.text_flops
    return Cost(tokens, tokens * gradient, flops, memory=memory)


@lru_cache(maxsize=256)
def _packed(lengths: tuple[int, ...], prefix: int) -> tuple[int, int, int]:
    """Sequences, tokens of names in each, and the most names of one."""
    bins, room = sequences(lengths, prefix, SEQUENCE)
    return len(bins), room, max(map(len, bins))


def plain_pass(tower: TowerShape, prompts: Counts, gradient: bool, replicas: int) -> Cost:
    """TextTower.encode: prompts of their own.

    Args:
        prompts: tokens of the prompts behind SOT, EOT included.
        gradient: whether one goes back to all of their tokens.
        replicas: of the trial, among which memory is divided.
    """
    batches = [_Batch(n, 1 + tokens, 1, n) for n, tokens in by_length(prompts)]
    return _cost(tower, batches, gradient, replicas)


def drawn_pass(
    tower: TowerShape,
    n: int,
    lengths: Sequence[int],
    shares: Sequence[float],
    gradient: bool,
    replicas: int,
) -> Cost:
    """plain_pass of n prompts whose classes are drawn at random, in expectation.

    Lengths are padded within groups (ship.clip.text_tower.by_length), so that the mean length is
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
    """(prompts, tokens of each) of the groups that ship.clip.text_tower.by_length makes."""
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


@dataclass(frozen=True)
class _Batch:
    """n sequences of t tokens; the last layer finishes k of each, of which `features` are asked."""

    n: float
    t: int
    k: int
    features: float


def _cost(tower: TowerShape, batches: Sequence[_Batch], gradient: bool, replicas: int) -> Cost:
    """Of batches that go through in turn; what a gradient needs of them is held at once."""
    tokens = sum(batch.n * batch.t for batch in batches)
    linear = sum(_linear(tower, batch) for batch in batches)
    attention = sum(4.0 * tower.layers * b.n * b.t**2 * tower.width for b in batches)
    held = [_bytes(tower, batch, gradient) for batch in batches]
    kept = sum(held) if gradient else max(held, default=0.0)
    # weights are frozen: each product goes back to what it was of, and attention's two to both
    back = linear + 2 * attention if gradient else 0.0
    memory = Memory(per_replica=kept / replicas)
    return Cost(tokens, tokens * gradient, linear + attention + back, memory=memory)


def _linear(tower: TowerShape, batch: _Batch) -> float:
    """Operations of the products with weights."""
    d, layers = tower.width, tower.layers
    # a token's multiplications and additions: query, key and value; all behind attention
    before, behind = 3 * 2.0 * d * d, 2.0 * d * d + 4 * d * tower.mlp_width
    rows, ends = batch.n * batch.t, batch.n * batch.k
    pooled = batch.features * 2 * d * tower.feature_dim
    return rows * (layers * before + (layers - 1) * behind) + ends * behind + pooled


def _bytes(tower: TowerShape, batch: _Batch, gradient: bool) -> float:
    """Bytes that a pass keeps for its backward pass, or that are alive at once without one.

    Of a token and layer: both norms' inputs, query, key, value, attention's output, and what the
    activation function keeps (twice the MLP's width: QuickGELU's; GELU keeps half).
    """
    d, layers = tower.width, tower.layers
    rows, ends = batch.n * batch.t, batch.n * batch.k
    before, behind = 4 * d, 2 * d + 2 * tower.mlp_width
    if not gradient:
        return tower.element_bytes * rows * (before + behind)
    kept = rows * (layers * before + (layers - 1) * behind) + ends * behind
    return tower.element_bytes * kept
