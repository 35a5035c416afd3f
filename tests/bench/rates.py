"""Rates of false claims in made-up studies, by the shape of their noise."""

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
    compute_rank_correlation,
    is_significant,
    mean_interval,
    resample_accuracy,
)
from tests.bench.noise import LOSS, RARE, SD, Array, Shape
from tests.reports.analysis.planted import METRIC, make_planted_study

SEED_SD, EFFECT = 1.5, 1.0
LEVELS = 4  # a baseline and three levels


def compared(values: Array, effect: float | None) -> list[Compared]:
    """The rows against the first one, judged together."""
    base, *rows = (dict(enumerate(row.tolist())) for row in values)
    comparisons = [comparison for row in rows if (comparison := compare_paired(row, base))]
    return add_verdicts(comparisons, effect)


def verdicts(shape: Shape, seeds: int, studies: int, seed: int) -> list[float]:
    """Rates of false verdicts with all differences at the effect, or at 0; coverage; warnings.

    Args:
        shape: of the noise.
        seeds: of a study.
        studies: how many.
        seed: of all draws.

    Returns:
        Shares of studies in which any of three comparisons is decided at the effect, equivalent at
        the effect, beyond chance at 0; of intervals that hold the truth; of studies that warn, and
        of those that warn among studies with a result that is 5 points off.
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros((studies, 4))
    warned, far = np.zeros(studies, bool), np.zeros(studies, bool)
    for study in range(studies):
        noise = shape(rng, LEVELS, seeds)
        values = 60 + rng.normal(0, SEED_SD, seeds) + noise
        moved = values + EFFECT * (np.arange(LEVELS) > 0)[:, None]
        at_effect, at_zero = compared(moved, EFFECT), compared(values, None)
        ends = [(comparison.difference.low, comparison.difference.high) for comparison in at_effect]
        covered = [low <= EFFECT <= (high or 0) for low, high in ends if low is not None]
        counts[study] = (
            any(comparison.verdict in (Verdict.HIGHER, Verdict.LOWER) for comparison in at_effect),
            any(comparison.verdict is Verdict.EQUIVALENT for comparison in at_effect),
            any(is_significant(comparison.holm_p) for comparison in at_zero),
            np.mean(covered)
            if covered
            else math.nan,  # differences that do not vary have no interval
        )
        parts = find_most_extreme(values), find_noisiest_row(values), measure_skewness(values)
        warned[study] = any(
            comparison is not None and comparison.p < ALPHA / len(parts) for comparison in parts
        )
        far[study] = np.abs(noise - np.median(noise)).max() > LOSS / 2
    among = float(warned[far].mean()) if far.any() else math.nan
    return [*np.nanmean(counts, axis=0).tolist(), float(warned.mean()), among]


def grids(shape: Shape, seeds: int, studies: int, seed: int) -> list[float]:
    """Shares of 3 x 4 grids without effects in which either factor, or the pair, has p < 0.05.

    Args:
        shape: of the noise of the 12 configurations.
        seeds, studies, seed: see verdicts.
    """
    rng, codes = np.random.default_rng(seed), np.indices((3, 4)).reshape(2, -1)
    factors = tuple(
        VariedFactor(FactorRecord(f"f{i}", tuple(range(n)), False, 0), tuple(range(n)), codes[i])
        for i, n in enumerate((3, 4))
    )
    model, called = build_model(factors), np.zeros(3)
    for _ in range(studies):
        values = 60 + rng.normal(0, SEED_SD, seeds) + shape(rng, 12, seeds)
        called += [
            compute_block_f(compute_term_contrasts(term, values)).p < 0.05 for term in model.terms
        ]
    return (called / studies).tolist()


def second_looks(seeds: int, studies: int, seed: int) -> list[float]:
    """Shares of single comparisons at the effect that are decided: at once, and after another look.

    Args:
        seeds: of the first look; normal noise.
        studies, seed: see verdicts.

    Returns:
        After one look; after a second one at the fewest, and at the most, of the further seeds that
        the first look names.
    """
    rng, decided = np.random.default_rng(seed), np.zeros((studies, 3))
    for study in range(studies):
        drawn = EFFECT + rng.normal(0, math.sqrt(2) * SD, seeds)
        (first,) = compared(np.array([np.zeros(seeds), drawn]), EFFECT)
        decided[study] = first.verdict is Verdict.HIGHER
        for place, more in enumerate(first.more_seeds or (), start=1):
            longer = np.append(drawn, EFFECT + rng.normal(0, math.sqrt(2) * SD, more))
            (second,) = compared(np.array([np.zeros(len(longer)), longer]), EFFECT)
            decided[study, place] = second.verdict is Verdict.HIGHER
    return decided.mean(axis=0).tolist()


def chosen(correlation: float, seeds: int, studies: int, seed: int) -> float:
    """Share of studies in which the interval of the best of ten equal configurations is too high.

    Args:
        correlation: of the noise of selection and test.
        seeds, studies, seed: see verdicts; normal noise.
    """
    rng = np.random.default_rng(seed)
    test = rng.normal(0, SD, (studies, 10, seeds))
    other = rng.normal(0, SD, test.shape)
    selection = correlation * test + math.sqrt(1 - correlation**2) * other
    best = selection.mean(axis=2).argmax(axis=1)
    lows = [mean_interval(row).low for row in test[np.arange(studies), best].tolist()]
    return float(np.mean([low is not None and low > 0 for low in lows]))


def over_classes(classes: int, studies: int, seed: int) -> float:
    """Share of intervals over classes that hold the truth, where one class of ten loses its half.

    Args:
        classes: of a test, of 50 images each; the others lose one right answer of fifty.
        studies, seed: see verdicts.
    """
    rng, n_covered = np.random.default_rng(seed), 0
    ids, images, losses = list(range(classes)), np.full(classes, 50.0), (0.02, 0.5)
    truth = -100 * 0.7 * ((1 - RARE) * losses[0] + RARE * losses[1])
    for _ in range(studies):
        right = rng.binomial(50, rng.uniform(0.5, 0.9, classes))
        lost = rng.binomial(right, np.where(rng.random(classes) < RARE, losses[1], losses[0]))
        drawn = [
            resample_accuracy("", ids, part.astype(float), images) for part in (right - lost, right)
        ]
        if drawn[0] is not None and drawn[1] is not None:
            mean = -100 * float(lost.sum() / images.sum())
            interval = compute_interval_over_classes(mean, [drawn[0] - drawn[1]])
            n_covered += (interval.low or 0) <= truth <= (interval.high or 0)
    return n_covered / studies


def under_tpe(configurations: int, studies: int) -> list[float]:
    """Shares of TPE studies in which any of three inert factors has a Holm p of ranks below 0.05.

    The second share is of those in which an inert factor has the largest importance.

    Args:
        settings: of a study of four ranges, of which the first has an effect of 8 points.
        studies: how many, of 3 seeds.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    keys = [f"x{i}" for i in range(4)]
    factors = [{"key": key, "levels": None, "log": False, "baseline": 0.5} for key in keys]
    called = np.zeros(2)
    for study in range(studies):
        rng = np.random.default_rng(study)
        sampler = optuna.samplers.TPESampler(seed=study, multivariate=True)
        search = optuna.create_study(direction="maximize", sampler=sampler)
        for _ in range(configurations):
            trial = search.ask()
            x = [trial.suggest_float(key, 0, 1) for key in keys]
            search.tell(trial, 8 * x[0] + rng.normal(0, SD / math.sqrt(3)))
        drawn, values = [t.params for t in search.trials], [t.value or 0.0 for t in search.trials]
        # the study has the results that the sampler saw, and some noise more
        seen = dict(zip((s["x0"] for s in drawn), values, strict=True))
        builder = make_planted_study(
            factors, drawn, lambda s, of=seen: of[s["x0"]], 3, rng, sampler="tpe"
        )
        ranked = adjust_by_holm(
            [compute_rank_correlation([s[key] for s in drawn], values, rng).p for key in keys]
        )
        by_ranks = any(is_significant(p) for p in ranked[1:])
        largest = compute_importance(builder.make_study(), METRIC).factors[0]
        called += (by_ranks, largest.factors != ("x0",))
    return (called / studies).tolist()
