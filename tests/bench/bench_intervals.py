"""python -m tests.bench.bench_intervals [STUDIES]: how far the report's intervals can be trusted.

Studies are made up in which the truth is known: a setting's H under each of n seeds, and a second
setting's under the same seeds that is no better. What is counted is in the columns of the table.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.stats import Estimate, compare_paired, mean_interval, percent_interval

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Array]
SEEDS = (3, 5, 10, 20)
STUDIES = 4_000


def _normal(rng: np.random.Generator, n: int) -> Array:
    return rng.normal(62.0, 1.5, n)


def _skewed(rng: np.random.Generator, n: int) -> Array:
    return 70.0 - rng.gamma(1.0, 4.0, n)


def _near_100(rng: np.random.Generator, n: int) -> Array:
    return 100.0 * rng.beta(49.0, 1.0, n)


def _collapsing(rng: np.random.Generator, n: int) -> Array:
    fine = rng.normal(62.0, 1.5, n)
    return np.where(rng.random(n) < 0.1, rng.normal(5.0, 1.5, n), fine)


TRUTHS: dict[str, tuple[Draw, float]] = {
    "normal (62 ± 1.5)": (_normal, 62.0),
    "skewed (70 less a gamma)": (_skewed, 66.0),
    "near 100 (mean 98)": (_near_100, 98.0),
    "one in ten collapses (62 to 5)": (_collapsing, 0.9 * 62.0 + 0.1 * 5.0),
}


@dataclass(frozen=True)
class Trust:
    """Shares of the studies, in percent.

    plain, logit: whose 95% interval holds the mean (t-interval; the same on the logit scale).
    beyond: whose plain interval reaches beyond 100.
    false: that find a difference at 5% where there is none.
    """

    truth: str
    seeds: int
    plain: float
    logit: float
    beyond: float
    false: float


def simulate(studies: int, seeds: Sequence[int] = SEEDS) -> Iterator[Trust]:
    """A row for each distribution and number of seeds.

    Args:
        studies: made up for each.
        seeds: numbers of seeds.
    """
    for name, (draw, mean) in TRUTHS.items():
        for n in seeds:
            rng = np.random.default_rng([n, len(name)])
            yield _row(name, draw, mean, n, studies, rng)


def _row(
    name: str, draw: Draw, mean: float, n: int, studies: int, rng: np.random.Generator
) -> Trust:
    plain = logit = beyond = false = 0
    for _ in range(studies):
        values, others = draw(rng, n).tolist(), draw(rng, n).tolist()
        one, bounded = mean_interval(values), percent_interval(values)
        plain += _holds(one, mean)
        logit += _holds(bounded, mean)
        beyond += one.high is not None and one.high > 100
        found = compare_paired(dict(enumerate(values)), dict(enumerate(others)))
        false += found is not None and found.p is not None and found.p < 0.05
    shares = (100 * count / studies for count in (plain, logit, beyond, false))
    return Trust(name, n, *shares)


def _holds(estimate: Estimate, mean: float) -> bool:
    low, high = estimate.low, estimate.high
    return low is not None and high is not None and low <= mean <= high


def main() -> None:
    """Print the table as Markdown."""
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else STUDIES
    print("| H over seeds | seeds | t-interval | logit t | beyond 100 | false differences |")
    print("| :--- | ---: | ---: | ---: | ---: | ---: |")
    for row in simulate(studies):
        numbers = (row.plain, row.logit, row.beyond, row.false)
        cells = " | ".join(f"{number:.1f}%" for number in numbers)
        print(f"| {row.truth} | {row.seeds} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
