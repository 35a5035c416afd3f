"""python -m tests.bench.bench_statistics [--smoke]: what a report's claims are worth, by noise.

Results are made up of a seed's own part (sd 1.5), true differences that are known, and noise of
some shape. Each table gives the share of studies with a false claim, or of intervals that hold the
truth. docs/statistics.md quotes it. Takes three minutes of one core.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence

from tests.bench.noise import BASELINE_SD, SD, SHAPES
from tests.bench.rates import (
    LEVELS,
    chosen,
    grids,
    over_classes,
    second_looks,
    under_tpe,
    verdicts,
)
from tests.bench.skewness import oracle_rate

SEEDS = 5
MIN_TPE = 10  # studies; with fewer, the longer ones are left out


def lines(studies: int, tpe: int) -> Iterator[str]:
    """The tables as Markdown.

    Args:
        studies: of a cell.
        tpe: studies under TPE.
    """
    yield f"Three levels against a baseline; {studies:,} studies of a row.\n"
    heads = "decided | equivalent | beyond chance | intervals hold | warned | warned of a loss"
    yield _head(f"noise | seeds | {heads}")
    for seeds in (SEEDS, 2 * SEEDS):
        for place, (name, shape) in enumerate(SHAPES.items()):
            yield _row(f"{name} | {seeds}", verdicts(shape, seeds, studies, place))
    quiet = BASELINE_SD / SD
    yield f"\nThree skewed levels, {2 * studies:,} studies of a cell.\n"
    yield _head(f"warned at most | {SEEDS} seeds | {2 * SEEDS} seeds")
    seen = [oracle_rate(LEVELS - 1, n, quiet, 2 * studies, n) for n in (SEEDS, 2 * SEEDS)]
    yield _row("by the test that knows the distribution", seen)
    yield f"\nA 3 x 4 grid without effects; {studies:,} studies of a row.\n"
    yield _head("noise | seeds | a factor | the other | the pair")
    for seeds in (3, SEEDS):
        for place, (name, shape) in enumerate(SHAPES.items()):
            yield _row(f"{name} | {seeds}", grids(shape, seeds, studies, place))
    yield f"\nNormal noise, {SEEDS} seeds, {studies:,} studies of a row.\n"
    yield _head("at the effect, one comparison | one look | fewest more | most more")
    yield _row("decided", second_looks(SEEDS, studies, 0))
    yield "\n" + _head("best of ten equal ones, noises that correlate by | 0 | 0.3 | 0.5 | 0.9")
    correlations = (0, 0.3, 0.5, 0.9)
    yield _row("interval above the truth", [chosen(r, SEEDS, studies, 0) for r in correlations])
    yield "\n" + _head("classes, one of ten loses half | 10 | 20 | 30 | 50")
    yield _row("intervals hold", [over_classes(k, studies, 0) for k in (10, 20, 30, 50)])
    yield "\n" + _head(
        f"any of three inert factors under TPE, {tpe} studies | by ranks | by importance"
    )
    for configurations in (30, 60)[: 1 if tpe < MIN_TPE else 2]:
        yield _row(f"{configurations} configurations, 3 seeds", under_tpe(configurations, tpe))


def _head(names: str) -> str:
    return f"| {names} |\n| :--- |{' ---: |' * names.count('|')}"


def _row(name: str, rates: Sequence[float]) -> str:
    cells = ["–" if math.isnan(rate) else f"{100 * rate:.1f}%" for rate in rates]
    return f"| {name} | {' | '.join(cells)} |"


def main(words: Sequence[str] | None = None) -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few studies: does it run?")
    parser.add_argument("--studies", type=int, default=1_000, help="of a cell")
    parser.add_argument("--tpe", type=int, default=100, help="studies under TPE")
    options = parser.parse_args(words)
    started = time.process_time()
    studies, tpe = (2, 1) if options.smoke else (options.studies, options.tpe)
    for line in lines(studies, tpe):
        print(line, flush=True)
    print(f"\n{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    main()
