"""python -m tests.bench.bench_planted [--smoke]: how far importance and answers can be trusted.

Studies are made up in which the effects are known: H is 60, a seed's own part (sd 1.5), the
effects, and noise (sd 0.7). What is counted is in the columns of the table. Takes some minutes.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.analysis import Importance, importance
from reports.analysis.importance import Effect
from reports.report import make_report
from reports.stats import Verdict
from reports.study import Study
from tests.reports.analysis.planted import METRIC, drawn, levelled, planted
from tests.reports.builder import StoreBuilder

Array = npt.NDArray[np.float64]
EFFECT = 2.0  # points of H between a factor's best and worst level
SWING = 0.5  # sd of what a seed adds to a level of a factor
CALLED = 0.05

SHAPES: dict[str, Callable[[float], float]] = {
    "line": lambda x: EFFECT * x,
    "peak": lambda x: EFFECT * (1 - 4 * (x - 0.5) ** 2),
    "step": lambda x: EFFECT * (x > 0.7),
}


# Of each kind of study: whether the planted factor stood first, and had a Holm p below 0.05;
# whether the planted pair stood first among the pairs; whether nothing was called that does
# nothing, of factors and of pairs; whether an interval held a true share that is 0% or 100%, or
# lies between; whether the answer decides the planted factor, and no other one.
COLUMNS = (
    "right first", "called", "pair first", "no other factor", "no other pair", "hold 0% or 100%",
    "hold between", "decided", "nothing else decided",
)  # fmt: skip
Counts = dict[str, list[bool]]


def sizes_of(rng: np.random.Generator) -> tuple[list[int], int]:
    """Levels of 2 to 4 factors, and 5 to 10 seeds."""
    return rng.integers(2, 6, size=rng.integers(2, 5)).tolist(), int(rng.integers(5, 11))


def spaced(levels: int, rng: np.random.Generator) -> Array:
    """Effects of levels, in any order, EFFECT from the least to the largest."""
    values = rng.random(levels)
    return np.asarray(EFFECT * (values - values.min()) / np.ptp(values))


def grids(
    studies: int, *, seed: int, main: bool = False, pair: bool = False, swing: bool = False,
    dead: bool = False,
) -> Counts:  # fmt: skip
    """Grids with a planted factor, a planted pair, both or neither.

    Args:
        studies: how many.
        seed: of all draws.
        main: whether a factor has an effect.
        pair: whether two factors have an interaction, without a main effect.
        swing: whether every factor goes up and down with the seed.
        dead: whether the factors without an effect change no result at all.
    """
    rng, counts = np.random.default_rng(seed), {name: [] for name in COLUMNS}
    for _ in range(studies):
        sizes, seeds = sizes_of(rng)
        target = int(rng.integers(len(sizes)))
        both = tuple(sorted(rng.choice(len(sizes), 2, replace=False).tolist()))
        values = np.zeros(sizes)
        if main:
            values = values + _along(spaced(sizes[target], rng), (target,), sizes)
        if pair:
            values = values + _along(_interaction(sizes, both, rng), both, sizes)
        builder = _grid_study(sizes, values, seeds, swing, rng)
        if dead:
            _level_others(builder, target)
        study = builder.study()
        _count(counts, study, f"f{target}" if main else "",
               tuple(f"f{i}" for i in both) if pair else (), values)  # fmt: skip
        _judge(counts, study, f"f{target}" if main else "")
    return counts


def ranges(studies: int, *, seed: int) -> Counts:
    """Drawn settings of 3 to 5 ranges, of which one has an effect, and no p.

    Args:
        studies: how many.
        seed: of all draws.
    """
    rng, counts = np.random.default_rng(seed), {name: [] for name in COLUMNS}
    for place in range(studies):
        n, settings = int(rng.integers(3, 6)), int(rng.integers(40, 81))
        target, shape = f"x{rng.integers(n)}", list(SHAPES.values())[place % len(SHAPES)]
        study = drawn(n, settings, _of_range(target, shape), int(rng.integers(3, 6)), rng).study()
        counts["right first"].append(importance(study, METRIC).factors[0].factors == (target,))
    return counts


def _of_range(key: str, shape: Callable[[float], float]) -> Callable[[Mapping[str, Any]], float]:
    return lambda assignment: shape(assignment[key])


def _along(values: Array, axes: Sequence[int], sizes: Sequence[int]) -> Array:
    """Effects of some factors' levels as those of all settings."""
    shape = [size if axis in axes else 1 for axis, size in enumerate(sizes)]
    return np.broadcast_to(values.reshape(shape), sizes)


def _interaction(sizes: Sequence[int], axes: Sequence[int], rng: np.random.Generator) -> Array:
    values = rng.normal(size=[sizes[axis] for axis in axes])
    values = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return np.asarray(EFFECT * values / np.ptp(values))


def _grid_study(
    sizes: Sequence[int], values: Array, seeds: int, swing: bool, rng: np.random.Generator
) -> StoreBuilder:
    cells = list(itertools.product(*(range(size) for size in sizes)))
    assignments = [{f"f{i}": level for i, level in enumerate(cell)} for cell in cells]
    at = {
        tuple(a.values()): float(values[cell]) for a, cell in zip(assignments, cells, strict=True)
    }
    builder = planted(levelled(sizes), assignments, lambda s: at[tuple(s.values())], seeds, rng)
    if swing:
        swings = [rng.normal(0, SWING, (size, seeds)) for size in sizes]
        for run, cell in zip(builder.runs, cells, strict=True):
            for seed in range(seeds):
                own = sum(float(swings[i][level, seed]) for i, level in enumerate(cell))
                run.metrics[f"test/{METRIC}/seed_{seed}"] += own
    return builder


def _level_others(builder: StoreBuilder, target: int) -> None:
    """Give each setting the results of the one where all factors but the target are at level 0."""
    runs = {tuple(json.loads(run.tags["ship.assignment"]).values()): run for run in builder.runs}
    held = {cell: dict(run.metrics) for cell, run in runs.items()}
    for cell, run in runs.items():
        run.metrics.update(held[tuple(level * (i == target) for i, level in enumerate(cell))])


def _count(counts: Counts, study: Study, target: str, pair: tuple[str, ...], values: Array) -> None:
    """Add a study to the counts; a target of "", a pair of (): none was planted."""
    found = importance(study, METRIC)
    if target:
        counts["right first"].append(found.factors[0].factors == (target,))
        counts["called"].append(any(_is_called(e) for e in found.factors if e.factors == (target,)))
    if pair:
        counts["pair first"].append(found.pairs[0].factors == pair)
    others = [_is_called(e) for e in found.factors if e.factors != (target,)]
    counts["no other factor"].append(not any(others))
    pairs = [_is_called(e) for e in found.pairs if e.factors != pair]
    counts["no other pair"].append(not any(pairs))
    if np.ptp(values) > 0:
        for true, holds in _held(found, values):
            kind = "hold between" if 0.1 < true < 99.9 else "hold 0% or 100%"
            counts[kind].append(holds)


def _judge(counts: Counts, study: Study, target: str) -> None:
    """Add the answer's verdicts on the factors; a target of "": none was planted."""
    answer = make_report(study).answer
    decided = {f.subject.split(",")[0] for f in answer.findings if f.verdict is Verdict.DECIDED}
    if target:
        counts["decided"].append(target in decided)
    counts["nothing else decided"].append(not decided - {target})


def _is_called(effect: Effect) -> bool:
    return effect.holm is not None and effect.holm < CALLED


def _held(found: Importance, values: Array) -> Iterator[tuple[float, bool]]:
    """Each effect's true share over the whole grid, and whether its interval holds it."""
    for effect in (*found.factors, *found.pairs):
        axes = [int(key[1:]) for key in effect.factors]
        true = 100 * _explained(values, axes) / float(values.var())
        low, high = (effect.share.low, effect.share.high) if effect.share else (None, None)
        known = low is not None and high is not None
        yield true, known and low - 1e-6 <= true <= high + 1e-6


def _explained(values: Array, axes: Sequence[int]) -> float:
    """The variance of a factor's means, or of what a pair's means have beyond its factors'."""

    def means(kept: Sequence[int]) -> Array:
        others = tuple(axis for axis in range(values.ndim) if axis not in kept)
        return np.asarray(values.mean(axis=others, keepdims=True))

    inner = means(axes) - (0 if len(axes) == 1 else sum(means([axis]) for axis in axes))
    return float(np.var(inner))


def _percent(values: Sequence[bool]) -> str:
    return f"{100 * sum(values) / len(values):.1f}%" if values else "–"


def main(words: Sequence[str] | None = None) -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few studies: does it run?")
    parser.add_argument(
        "--studies",
        type=int,
        default=200,
        help="of a row; five times as many of nothing and of swing",
    )
    options = parser.parse_args(words)
    studies = 1 if options.smoke else options.studies
    many = 1 if options.smoke else 5 * studies
    kinds: dict[str, Callable[[], Counts]] = {
        "grid, a factor": lambda: grids(studies, seed=1, main=True),
        "grid, a factor and a pair": lambda: grids(studies, seed=2, main=True, pair=True),
        "grid, a factor; swing": lambda: grids(many, seed=3, main=True, swing=True),
        "grid, nothing": lambda: grids(many, seed=4),
        "grid, nothing; swing": lambda: grids(many, seed=5, swing=True),
        "grid, a factor; others dead": lambda: grids(studies, seed=8, main=True, dead=True),
        "ranges, a factor": lambda: ranges(studies, seed=6),
    }
    print(f"| planted | studies | {' | '.join(COLUMNS)} |")
    print(f"| :--- {'| ---: ' * 10}|")
    for name, make in kinds.items():
        made = make()
        cells = " | ".join(map(_percent, made.values()))
        count = len(made["no other factor"] or made["right first"])
        print(f"| {name} | {count} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
