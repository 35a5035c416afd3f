"""Shapes of noise, with and without what t-tests take for granted."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
SD, LOSS = 0.7, 10.0
BASELINE_SD = 0.15  # of a baseline that hardly varies beside skewed levels
RARE = 0.1  # of seeds, or classes, have a loss

Shape = Callable[[np.random.Generator, int, int], Array]


def normal(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Normal noise of one deviation, (rows, seeds); so are the shapes below."""
    return rng.normal(0, SD, (rows, seeds))


def uniform(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Symmetric noise without tails."""
    return rng.uniform(-SD, SD, (rows, seeds)) * math.sqrt(3)


def heavy(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Symmetric noise with long tails, Student's t of 3 degrees."""
    return np.asarray(SD * rng.standard_t(3, (rows, seeds)))


def noisy_result(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """The last row has sd 8."""
    noise = normal(rng, rows, seeds)
    noise[-1] *= 8 / SD
    return noise


def near_ties(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """The last two rows differ by 0.001."""
    noise = normal(rng, rows, seeds)
    noise[-1] = noise[-2] + rng.normal(0, 0.001, seeds)
    return noise


def unequal_seeds(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Each seed has a deviation of its own, lognormal."""
    return normal(rng, rows, seeds) * rng.lognormal(0, 0.7, seeds)


def dependent_seeds(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """A seed's noise is 0.5 of the seed's before, and new noise."""
    noise = normal(rng, rows, seeds)
    for seed in range(1, seeds):
        noise[:, seed] = 0.5 * noise[:, seed - 1] + math.sqrt(0.75) * noise[:, seed]
    return noise


def rounded(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Sd 0.2, and results in steps of 0.5: few test images, many ties."""
    return np.asarray(np.round(rng.normal(0, 0.2, (rows, seeds)) / 0.5) * 0.5)


def bimodal(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """The last row is 2 points up or down, as often as not."""
    noise = normal(rng, rows, seeds)
    noise[-1] += 2 * rng.choice([-1.0, 1.0], seeds)
    return noise


def skewed_rows(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """All rows but the first are lognormal, and the first hardly varies."""
    noise = SD * (rng.lognormal(0, 1, (rows, seeds)) - math.exp(0.5))
    noise[0] = rng.normal(0, BASELINE_SD, seeds)
    return np.asarray(noise)


def rare_loss(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """The last row loses 10 points in one seed of ten."""
    noise = normal(rng, rows, seeds)
    noise[-1] -= LOSS * ((rng.random(seeds) < RARE) - RARE)
    return noise


SHAPES: dict[str, Shape] = {
    "normal, sd 0.7": normal,
    "uniform": uniform,
    "Student's t of 3": heavy,
    "one level of sd 8": noisy_result,
    "two levels tied to 0.001": near_ties,
    "seeds of unequal sd": unequal_seeds,
    "seeds that correlate by 0.5": dependent_seeds,
    "results in steps of 0.5": rounded,
    "one level ±2 points": bimodal,
    "three skewed levels": skewed_rows,
    "one level loses 10 in one seed of ten": rare_loss,
}
