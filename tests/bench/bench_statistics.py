"""python -m tests.bench.bench_statistics [--smoke]: rates of false claims in reports.

Simulated results are the sum of a seed's effect (SD 1.5), known differences, and noise of several
distributions. The tables contain the shares of studies with a false claim, or of intervals that
contain the true value. docs/statistics.md quotes them. It takes three minutes on one core.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence

from tests.bench.noise import BASELINE_SD, SD, SHAPES
from tests.bench.rates import (
    LEVELS,
    measure_added_seeds,
    measure_best_of_ten,
    measure_class_intervals,
    measure_grids,
    measure_tpe_studies,
    measure_verdicts,
)
from tests.bench.skewness import compute_max_detection_rate

SEEDS = 5
MIN_TPE = 10  # with fewer studies, those of 60 configurations are skipped


def make_lines(studies: int, tpe: int) -> Iterator[str]:
    """Yield the tables as Markdown.

    Args:
        studies: Number of studies per cell.
        tpe: Number of studies per cell whose sampler is TPE.
    """
    yield f"Three levels compared with a baseline; {studies:,} studies per row.\n"
    verdicts = "higher or lower | equivalent | significant at 0"
    yield _head(f"noise | seeds | {verdicts} | intervals contain truth | warning | loss: warning")
    for seeds in (SEEDS, 2 * SEEDS):
        for index, (name, shape) in enumerate(SHAPES.items()):
            yield _row(f"{name} | {seeds}", measure_verdicts(shape, seeds, studies, index))
    yield f"\nThree skewed levels, {2 * studies:,} studies per cell.\n"
    yield _head(f"highest possible rate of warnings | {SEEDS} seeds | {2 * SEEDS} seeds")
    rates = [
        compute_max_detection_rate(LEVELS - 1, seeds, BASELINE_SD / SD, 2 * studies, seeds)
        for seeds in (SEEDS, 2 * SEEDS)
    ]
    yield _row("test that knows the distribution", rates)
    yield f"\nA 3 x 4 grid without effects; {studies:,} studies per row.\n"
    yield _head("noise | seeds | first factor | second factor | interaction")
    for seeds in (3, SEEDS):
        for index, (name, shape) in enumerate(SHAPES.items()):
            yield _row(f"{name} | {seeds}", measure_grids(shape, seeds, studies, index))
    yield f"\nNormal noise, {SEEDS} seeds, {studies:,} studies per row.\n"
    yield _head("one comparison at the smallest effect | at first | fewest more | most more")
    yield _row("higher", measure_added_seeds(SEEDS, studies, 0))
    yield "\n" + _head("best of ten equal configurations, correlation | 0 | 0.3 | 0.5 | 0.9")
    rates = [measure_best_of_ten(r, SEEDS, studies, 0) for r in (0, 0.3, 0.5, 0.9)]
    yield _row("interval above the true value", rates)
    yield "\n" + _head("classes, one of ten loses half | 10 | 20 | 30 | 50")
    rates = [measure_class_intervals(classes, studies, 0) for classes in (10, 20, 30, 50)]
    yield _row("intervals contain truth", rates)
    yield "\n" + _head(
        f"any of three factors without effect, TPE, {tpe} studies | by ranks | by importance"
    )
    for configurations in (30, 60)[: 1 if tpe < MIN_TPE else 2]:
        rates = measure_tpe_studies(configurations, tpe)
        yield _row(f"{configurations} configurations, 3 seeds", rates)


def _head(names: str) -> str:
    """Return the first two lines of a table; names are separated by |."""
    return f"| {names} |\n| :--- |{' ---: |' * names.count('|')}"


def _row(name: str, rates: Sequence[float]) -> str:
    """Return a line of a table, with rates in percent."""
    cells = ["–" if math.isnan(rate) else f"{100 * rate:.1f}%" for rate in rates]
    return f"| {name} | {' | '.join(cells)} |"


def main(words: Sequence[str] | None = None) -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few studies, as a smoke test")
    parser.add_argument("--studies", type=int, default=1_000, help="studies per cell")
    parser.add_argument("--tpe", type=int, default=100, help="studies per cell with TPE")
    options = parser.parse_args(words)
    start = time.process_time()
    studies, tpe = (2, 1) if options.smoke else (options.studies, options.tpe)
    for line in make_lines(studies, tpe):
        print(line, flush=True)
    print(f"\n{time.process_time() - start:.0f} s of one core")


if __name__ == "__main__":
    main()
