"""Lines of the dry run about the smallest difference that a study's seeds can detect."""

import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from harness.config import MAX_SEEDS, StudyConfig
from harness.store import Run
from harness.wording import count, format_duration
from reports.errors import ReportError
from reports.stats import minimum_detectable
from reports.tables import Family, families_of_runs

MIN_PAIRS = 3  # minimum number of pairs to estimate a standard deviation


def format_detectable(study: StudyConfig, runs: Sequence[Run]) -> list[str]:
    """Return lines about the difference that the seeds can detect, and the cost of smaller ones.

    There is one line per family of comparisons. If too few seeds have finished, one line says so.

    Args:
        study: The study.
        runs: Runs of the study's experiment, oldest first.

    Returns:
        The lines. [] if the study has results, but nothing that can be compared.
    """
    try:
        families = families_of_runs(study.name, runs)
    except ReportError:  # no such study, or nothing finished; the plan shows that
        families = []
    if families and not any(family.is_comparable and family.pairs for family in families):
        return []
    seeds = len(study.seeds)
    estimable = [family for family in families if list_deviations(family.differences_by_seed)]
    if estimable:
        return [_format_family(family, seeds, study.smallest_effect) for family in estimable]
    line = (
        f"the difference that {count(seeds, 'seed')} can detect is unknown: at least "
        f"one level and the baseline must have finished under {MIN_PAIRS} common seeds, with "
        "differences that vary"
    )
    if seeds > MIN_PAIRS:
        line += f". Run a pilot first (--set seeds={MIN_PAIRS})"
    return [line]


def list_deviations(differences: Sequence[Mapping[int, float]]) -> list[float]:
    """Return the positive standard deviations of comparisons with at least MIN_PAIRS pairs.

    The detectable difference is proportional to the deviation. The median deviation therefore gives
    the median detectable difference.

    Args:
        differences: Seed -> difference, for each comparison.
    """
    samples = [list(pairs.values()) for pairs in differences if len(pairs) >= MIN_PAIRS]
    return [deviation for values in samples if (deviation := statistics.stdev(values)) > 0]


def _format_family(family: Family, seeds: int, smallest_effect: float) -> str:
    """Return a family's line: the detectable difference, and the seeds that smaller ones need.

    The smaller ones are half of the detectable difference, and the smallest effect of interest.
    """
    deviations, n_tests = (
        list_deviations(family.differences_by_seed),
        len(family.differences_by_seed),
    )
    deviation = statistics.median(deviations)
    smaller_effects = {smallest_effect}
    detectable = minimum_detectable(deviation, seeds, n_tests)
    result = "cannot detect any difference"
    if detectable is not None:
        smaller_effects.add(float(f"{detectable / 2:.2g}"))
        result = f"can detect differences in {family.heading} of {detectable:.2g} points or more"
    basis = f"with 80% power; median of {count(len(deviations), 'comparison')}"
    parts = [f"{family.name}: {count(seeds, 'seed')} {result} ({basis})"]
    for effect in sorted(smaller_effects, reverse=True):
        n_seeds = count_needed_seeds(deviation, n_tests, effect)
        seeds_text = f"more than {MAX_SEEDS:,} seeds"
        if n_seeds:
            seeds_text = f"about {count(n_seeds, 'seed')}"
        extra_seconds = ((n_seeds or 0) - seeds) * family.seconds_per_extra_seed
        cost = f" (+{format_duration(extra_seconds)} of computing)" if extra_seconds > 0 else ""
        points = "point" if effect == 1 else "points"
        parts.append(f"{effect:g} {points} need {seeds_text}{cost}")
    return "; ".join(parts)


def count_needed_seeds(deviation: float, n_tests: int, effect: float) -> int | None:
    """Return the minimum number of seeds that detect a difference, or None above MAX_SEEDS.

    Args:
        deviation: Standard deviation of paired differences.
        n_tests: Number of comparisons in the family.
        effect: The difference.
    """
    # begins at 2: the key would be True for a single seed, which has no detectable difference
    n_seeds = bisect_left(
        range(MAX_SEEDS + 1),
        True,
        lo=2,
        key=lambda n: (minimum_detectable(deviation, n, n_tests) or 0.0) <= effect,
    )
    return n_seeds if n_seeds <= MAX_SEEDS else None
