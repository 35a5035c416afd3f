"""Warnings of uneven noise are raised for uneven noise, and rarely otherwise."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from reports.analysis.noise_checks import (
    ALPHA,
    find_most_extreme,
    find_noisiest_level,
    find_noisiest_row,
    measure_skewness,
)
from reports.report import make_report
from reports.stats import Array
from tests.reports.analysis.planted import METRIC, grid, nothing
from tests.reports.analysis.test_variance import two_factors
from tests.reports.studies import crossed

LEVELS, SEEDS = 5, 5
Shape = Callable[[np.random.Generator], Array]


def normal(rng: np.random.Generator) -> Array:
    """Seeds' own parts and normal noise, (LEVELS, SEEDS)."""
    noise = rng.normal(0, 0.7, (LEVELS, SEEDS))
    return np.asarray(60 + rng.normal(0, 1.5, SEEDS) + noise)


def with_a_loss(rng: np.random.Generator) -> Array:
    """One seed of one level loses 10 points."""
    values = normal(rng)
    values[2, 1] -= 10
    return values


def with_a_noisy_level(rng: np.random.Generator) -> Array:
    """One level has seven times the others' noise."""
    values = normal(rng)
    values[2] += rng.normal(0, 5, SEEDS)
    return values


def with_skewed_noise(rng: np.random.Generator) -> Array:
    """Twice as many seeds, and lognormal noise."""
    return np.asarray(60 + rng.lognormal(0, 1, (LEVELS, 2 * SEEDS)))


@pytest.mark.parametrize(
    ("shape", "least", "most"),
    [
        (normal, 0.0, 0.07),
        (with_a_loss, 0.9, 1.0),
        (with_a_noisy_level, 0.8, 1.0),
        (with_skewed_noise, 0.8, 1.0),
    ],
)
def test_uneven_noise_is_detected(shape: Shape, least: float, most: float) -> None:
    """Each kind of uneven noise is detected in most of 400 studies, and even noise in few."""
    rng, warned = np.random.default_rng(0), 0
    for _ in range(400):
        values = shape(rng)
        signs = find_most_extreme(values), find_noisiest_row(values), measure_skewness(values)
        warned += any(sign is not None and sign.p < ALPHA / 3 for sign in signs)
    assert least <= warned / 400 <= most


def test_a_noisy_level_of_a_grid_is_detected() -> None:
    """The configurations of the level vary more over seeds, although its mean may not."""
    rng, factors, values = np.random.default_rng(1), two_factors(3, 4), np.zeros((12, 5))
    values[:] = 60 + rng.normal(0, 0.7, (12, 5))
    values[factors[0].codes == 1] += rng.normal(0, 5, (4, 5))
    first, second = (find_noisiest_level(values, factor) for factor in factors)
    assert first is not None and first.position == 1 and first.p < 0.001
    assert second is not None and second.p > 0.05


def test_p_of_a_noisy_row_is_that_of_an_f_test() -> None:
    """The F test compares the row's differences to the others' mean with the others' residuals."""
    values = with_a_noisy_level(np.random.default_rng(3))
    noisy, rest = find_noisiest_row(values), np.delete(values, 2, axis=0)
    gap = values[2] - rest.mean(axis=0)
    left = rest - rest.mean(axis=1, keepdims=True) - rest.mean(axis=0) + rest.mean()
    ratio = gap.var(ddof=1) * 4 / 5 / ((left**2).sum() / 12)
    assert noisy is not None and noisy.position == 2
    assert noisy.p == pytest.approx(5 * stats.f.sf(ratio, 4, 12))


@pytest.mark.parametrize("values", [np.full((4, 5), 60.0), np.arange(5.0) + np.zeros((4, 5))])
def test_without_noise_nothing_is_uneven(values: Array) -> None:
    """Results that fit the additive table have no outlier, no noisy row and no skewed noise."""
    assert find_most_extreme(values) is None and find_noisiest_row(values) is None
    assert measure_skewness(values) is None


def test_skewness_of_residuals_has_the_assumed_standard_deviation() -> None:
    """It is checked on 20,000 simulated normal tables of four rows and five seeds."""
    tables = np.random.default_rng(4).normal(0, 1, (20_000, 4, 5))
    skews = [skew for values in tables if (skew := measure_skewness(values))]
    deviations = [float(np.sign(skew.value) * stats.norm.isf(skew.p / 2)) for skew in skews]
    assert np.std(deviations) == pytest.approx(1, abs=0.02)
    assert np.mean([skew.p < 0.02 for skew in skews]) == pytest.approx(0.02, abs=0.003)


def test_an_answer_warns_of_skewed_noise() -> None:
    """Each configuration loses 3 points in one of eight seeds, so none is far from the others."""
    builder, rng = grid((6,), nothing, seeds=8), np.random.default_rng(3)
    for row, run in enumerate(builder.runs):
        for seed in range(8):
            loss = 3.0 if seed == row else 0.0
            run.metrics[f"test/{METRIC}/seed_{seed}"] = 60 - loss + float(rng.normal(0, 0.1))
    (line,) = [
        c for c in make_report(builder.study()).answer.cautions if "assume normal noise" in c
    ]
    assert line.startswith("H has skewed noise (skewness −")


def test_factors_with_the_same_last_part_have_their_whole_names() -> None:
    """As in tables, "name" would be ambiguous."""
    names = {"generator.name": ["none", "vae", "wgan"], "finetuner.name": ["coop", "cocoop"]}
    rng = np.random.default_rng(0)
    builder = crossed(names, lambda *levels: 50.0 + float(rng.normal(0, 0.1)))
    builder.runs[3].metrics[f"test/{METRIC}/seed_1"] -= 20
    (line,) = [c for c in make_report(builder.study()).answer.cautions if "far from" in c]
    assert line.startswith("H of generator.name vae, finetuner.name cocoop under seed 1 is far")


def test_an_answer_warns_of_an_outlying_result() -> None:
    """The caution names the configuration, the seed and the distance."""
    builder = grid((5,), nothing)
    plain = make_report(builder.study()).answer
    assert not any("far from" in line for line in plain.cautions)
    builder.runs[2].metrics[f"test/{METRIC}/seed_1"] -= 20
    (line,) = [c for c in make_report(builder.study()).answer.cautions if "far from" in c]
    assert line.startswith("H of f0 2 under seed 1 is far from what the other results predict (−")
