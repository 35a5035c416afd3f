"""Distributions of noise that satisfy, or violate, the assumptions of t-tests.

Each function returns the noise of the results of a study, (rows, seeds).
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
SD, LOSS = 0.7, 10.0
BASELINE_SD = 0.15  # SD of the baseline if the other levels are skewed
RARE = 0.1  # probability that a seed, or a class, has a loss

Shape = Callable[[np.random.Generator, int, int], Array]


def draw_normal(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Draw normal noise with equal SD."""
    return rng.normal(0, SD, (rows, seeds))


def draw_uniform(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Draw symmetric noise without tails."""
    return rng.uniform(-SD, SD, (rows, seeds)) * math.sqrt(3)


def draw_heavy_tails(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Draw symmetric noise with long tails, Student's t with 3 degrees of freedom."""
    return np.asarray(SD * rng.standard_t(3, (rows, seeds)))


def draw_noisy_result(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Draw normal noise with SD 8 in the last row."""
    noise = draw_normal(rng, rows, seeds)
    noise[-1] *= 8 / SD
    return noise


def draw_near_ties(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Draw normal noise in which the last two rows differ by about 0.001."""
    noise = draw_normal(rng, rows, seeds)
    noise[-1] = noise[-2] + rng.normal(0, 0.001, seeds)
    return noise


def draw_unequal_seeds(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Draw normal noise whose SD differs between seeds, with a lognormal distribution."""
    return draw_normal(rng, rows, seeds) * rng.lognormal(0, 0.7, seeds)


def draw_dependent_seeds(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Draw normal noise with correlation 0.5 between consecutive seeds."""
    noise = draw_normal(rng, rows, seeds)
    for seed in range(1, seeds):
        noise[:, seed] = 0.5 * noise[:, seed - 1] + math.sqrt(0.75) * noise[:, seed]
    return noise


def draw_rounded_noise(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Draw normal noise with SD 0.2, rounded to steps of 0.5, as with few test images."""
    return np.asarray(np.round(rng.normal(0, 0.2, (rows, seeds)) / 0.5) * 0.5)


def draw_bimodal(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Draw normal noise, plus 2 or -2 points in the last row with equal probability."""
    noise = draw_normal(rng, rows, seeds)
    noise[-1] += 2 * rng.choice([-1.0, 1.0], seeds)
    return noise


def draw_skewed_rows(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Draw lognormal noise for all rows but the first, which has a small SD."""
    noise = SD * (rng.lognormal(0, 1, (rows, seeds)) - math.exp(0.5))
    noise[0] = rng.normal(0, BASELINE_SD, seeds)
    return np.asarray(noise)


def draw_rare_loss(rng: np.random.Generator, rows: int, seeds: int) -> Array:
    """Draw normal noise, with a loss of 10 points in one seed of ten of the last row."""
    noise = draw_normal(rng, rows, seeds)
    noise[-1] -= LOSS * ((rng.random(seeds) < RARE) - RARE)
    return noise


SHAPES: dict[str, Shape] = {
    "normal, sd 0.7": draw_normal,
    "uniform": draw_uniform,
    "Student's t of 3": draw_heavy_tails,
    "one level of sd 8": draw_noisy_result,
    "two levels tied to 0.001": draw_near_ties,
    "seeds of unequal sd": draw_unequal_seeds,
    "seeds that correlate by 0.5": draw_dependent_seeds,
    "results in steps of 0.5": draw_rounded_noise,
    "one level ±2 points": draw_bimodal,
    "three skewed levels": draw_skewed_rows,
    "one level loses 10 in one seed of ten": draw_rare_loss,
}
