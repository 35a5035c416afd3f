"""Rates of false claims in simulated studies, by the distribution of their noise."""

import math

import numpy as np

from harness.store import FactorRecord
from reports.analysis import compute_importance
from reports.analysis.contrasts import build_model
from reports.analysis.design import VariedFactor
from reports.analysis.noise_checks import (
    ALPHA,
    find_most_extreme,
    find_noisiest_row,
    measure_skewness,
)
from reports.analysis.variance import compute_block_f, compute_term_contrasts
from reports.stats import (
    Compared,
    Verdict,
    add_verdicts,
    adjust_by_holm,
    compare_paired,
    compute_interval_over_classes,
    compute_mean_interval,
    compute_rank_correlation,
    is_significant,
    resample_accuracy,
)
from tests.bench.noise import LOSS, RARE, SD, Array, Shape
from tests.reports.analysis.planted import METRIC, make_planted_study

SEED_SD, EFFECT = 1.5, 1.0
LEVELS = 4  # a baseline and three levels


def compare_with_first_row(values: Array, effect: float | None) -> list[Compared]:
    """Compare the other rows with the first one. Their p-values are adjusted together."""
    base, *rows = (dict(enumerate(row.tolist())) for row in values)
    comparisons = [comparison for row in rows if (comparison := compare_paired(row, base))]
    return add_verdicts(comparisons, effect)


def measure_verdicts(shape: Shape, seeds: int, studies: int, seed: int) -> list[float]:
    """Measure false verdicts, coverage and warnings of studies with three comparisons.

    Each study is analyzed with true differences of EFFECT, the smallest effect of interest, and
    with true differences of 0.

    Args:
        shape: Distribution of the noise.
        seeds: Number of seeds per study.
        studies: Number of studies.
        seed: Seed of all draws.

    Returns:
        Six shares:

        - studies with a comparison that is higher or lower, if all differences are EFFECT
        - studies with a comparison that is equivalent, if all differences are EFFECT
        - studies with a significant comparison, if all differences are 0
        - intervals that contain the true difference
        - studies with a warning about their noise
        - studies with a warning, among those with a result that is 5 points off
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros((studies, 4))
    has_warning, has_outlier = np.zeros(studies, bool), np.zeros(studies, bool)
    for study in range(studies):
        noise = shape(rng, LEVELS, seeds)
        values = 60 + rng.normal(0, SEED_SD, seeds) + noise
        with_effect = values + EFFECT * (np.arange(LEVELS) > 0)[:, None]
        at_effect = compare_with_first_row(with_effect, EFFECT)
        at_zero = compare_with_first_row(values, None)
        ends = [(comparison.difference.low, comparison.difference.high) for comparison in at_effect]
        covers = [low <= EFFECT <= (high or 0) for low, high in ends if low is not None]
        counts[study] = (
            any(comparison.verdict in (Verdict.HIGHER, Verdict.LOWER) for comparison in at_effect),
            any(comparison.verdict is Verdict.EQUIVALENT for comparison in at_effect),
            any(is_significant(comparison.holm_p) for comparison in at_zero),
            # constant differences have no interval
            np.mean(covers) if covers else math.nan,
        )
        checks = find_most_extreme(values), find_noisiest_row(values), measure_skewness(values)
        has_warning[study] = any(
            check is not None and check.p < ALPHA / len(checks) for check in checks
        )
        has_outlier[study] = np.abs(noise - np.median(noise)).max() > LOSS / 2
    among_outliers = float(has_warning[has_outlier].mean()) if has_outlier.any() else math.nan
    return [*np.nanmean(counts, axis=0).tolist(), float(has_warning.mean()), among_outliers]


def measure_grids(shape: Shape, seeds: int, studies: int, seed: int) -> list[float]:
    """Return the shares of 3 x 4 grids without effects in which a term has p < 0.05.

    Args:
        shape: Distribution of the noise of the 12 configurations.
        seeds: Number of seeds per study.
        studies: Number of studies.
        seed: Seed of all draws.

    Returns:
        Shares for the first factor, the second factor and their interaction.
    """
    rng, codes = np.random.default_rng(seed), np.indices((3, 4)).reshape(2, -1)
    factors = tuple(
        VariedFactor(FactorRecord(f"f{i}", tuple(range(n)), False, 0), tuple(range(n)), codes[i])
        for i, n in enumerate((3, 4))
    )
    model, n_significant = build_model(factors), np.zeros(3)
    for _ in range(studies):
        values = 60 + rng.normal(0, SEED_SD, seeds) + shape(rng, 12, seeds)
        n_significant += [
            compute_block_f(compute_term_contrasts(term, values)).p < 0.05 for term in model.terms
        ]
    return (n_significant / studies).tolist()


def measure_added_seeds(seeds: int, studies: int, seed: int) -> list[float]:
    """Measure how often a difference of EFFECT is called higher, before and after adding seeds.

    The noise is normal. Each study has one comparison, which reports a range of further seeds that
    are needed for a verdict.

    Args:
        seeds: Number of seeds per study at first.
        studies: Number of studies.
        seed: Seed of all draws.

    Returns:
        Shares of studies with the verdict HIGHER: at first, with the lowest number of further
        seeds, and with the highest number.
    """
    rng, is_higher = np.random.default_rng(seed), np.zeros((studies, 3))
    for study in range(studies):
        values = EFFECT + rng.normal(0, math.sqrt(2) * SD, seeds)
        (first,) = compare_with_first_row(np.array([np.zeros(seeds), values]), EFFECT)
        is_higher[study] = first.verdict is Verdict.HIGHER
        for column, n_more in enumerate(first.more_seeds or (), start=1):
            extended = np.append(values, EFFECT + rng.normal(0, math.sqrt(2) * SD, n_more))
            rows = np.array([np.zeros(len(extended)), extended])
            (second,) = compare_with_first_row(rows, EFFECT)
            is_higher[study, column] = second.verdict is Verdict.HIGHER
    return is_higher.mean(axis=0).tolist()


def measure_best_of_ten(correlation: float, seeds: int, studies: int, seed: int) -> float:
    """Return the share of studies whose best configuration has an interval above the true value.

    Each study has ten equal configurations with normal noise.

    Args:
        correlation: Correlation between the noise of selection and of test.
        seeds: Number of seeds per study.
        studies: Number of studies.
        seed: Seed of all draws.
    """
    rng = np.random.default_rng(seed)
    test = rng.normal(0, SD, (studies, 10, seeds))
    independent = rng.normal(0, SD, test.shape)
    selection = correlation * test + math.sqrt(1 - correlation**2) * independent
    best = selection.mean(axis=2).argmax(axis=1)
    lows = [compute_mean_interval(row).low for row in test[np.arange(studies), best].tolist()]
    return float(np.mean([low is not None and low > 0 for low in lows]))


def measure_class_intervals(classes: int, studies: int, seed: int) -> float:
    """Return the share of intervals over classes that contain the true difference.

    One class of ten loses half of its correct predictions, and the others lose one of fifty.

    Args:
        classes: Number of classes, with 50 test images each.
        studies: Number of studies.
        seed: Seed of all draws.
    """
    rng, n_covered = np.random.default_rng(seed), 0
    ids, images, losses = list(range(classes)), np.full(classes, 50.0), (0.02, 0.5)
    truth = -100 * 0.7 * ((1 - RARE) * losses[0] + RARE * losses[1])
    for _ in range(studies):
        correct = rng.binomial(50, rng.uniform(0.5, 0.9, classes))
        lost = rng.binomial(correct, np.where(rng.random(classes) < RARE, losses[1], losses[0]))
        after, before = (
            resample_accuracy("", ids, counts.astype(float), images)
            for counts in (correct - lost, correct)
        )
        if after is not None and before is not None:
            mean = -100 * float(lost.sum() / images.sum())
            interval = compute_interval_over_classes(mean, [after - before])
            n_covered += (interval.low or 0) <= truth <= (interval.high or 0)
    return n_covered / studies


def measure_tpe_studies(configurations: int, studies: int) -> list[float]:
    """Measure false claims about factors without effect in studies whose sampler is TPE.

    A study has four ranges, of which the first has an effect of 8 points, and 3 seeds.

    Args:
        configurations: Number of configurations per study.
        studies: Number of studies.

    Returns:
        Share of studies in which a factor without effect has a Holm p of ranks below 0.05, and
        share in which one has the largest importance.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    keys = [f"x{i}" for i in range(4)]
    factors = [{"key": key, "levels": None, "log": False, "baseline": 0.5} for key in keys]
    n_false = np.zeros(2)
    for study in range(studies):
        rng = np.random.default_rng(study)
        sampler = optuna.samplers.TPESampler(seed=study, multivariate=True)
        search = optuna.create_study(direction="maximize", sampler=sampler)
        for _ in range(configurations):
            trial = search.ask()
            x = [trial.suggest_float(key, 0, 1) for key in keys]
            search.tell(trial, 8 * x[0] + rng.normal(0, SD / math.sqrt(3)))
        points = [trial.params for trial in search.trials]
        values = [trial.value or 0.0 for trial in search.trials]
        # the results of the study are those that the sampler received, plus noise between seeds
        value_of = dict(zip((point["x0"] for point in points), values, strict=True))
        builder = make_planted_study(
            factors, points, lambda point, of=value_of: of[point["x0"]], 3, rng, sampler="tpe"
        )
        p_values = [
            compute_rank_correlation([s[key] for s in points], values, rng).p for key in keys
        ]
        by_ranks = any(is_significant(p) for p in adjust_by_holm(p_values)[1:])
        largest = compute_importance(builder.make_study(), METRIC).factors[0]
        n_false += (by_ranks, largest.factors != ("x0",))
    return (n_false / studies).tolist()
