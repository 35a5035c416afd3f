"""Lines of the dry run about the smallest difference that a study's seeds can detect."""

import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from harness.config import MAX_SEEDS, StudyConfig
from harness.store import Run
from harness.wording import count, format_duration
from reports.errors import ReportError
from reports.stats import compute_minimum_detectable
from reports.tables import Family, make_families_of_runs

MIN_PAIRS = 3  # pairs that are needed to estimate a standard deviation


def format_detectable(study: StudyConfig, runs: Sequence[Run]) -> list[str]:
    """Return lines about the smallest difference that a study's seeds can detect.

    The lines also give the number of seeds that smaller differences need, and their time.

    Args:
        study: The study.
        runs: Runs of the study's experiment, oldest first.

    Returns:
        One line per family of comparisons. A single line if no family has enough finished seeds.
        [] if the study has results, but none that can be compared.
    """
    try:
        families = make_families_of_runs(study.name, runs)
    except ReportError:  # no such experiment, or no finished run
        families = []
    if families and not any(family.is_comparable and family.pairs for family in families):
        return []
    n_seeds = len(study.seeds)
    estimable = [family for family in families if list_deviations(family.differences_by_seed)]
    if estimable:
        return [_format_family(family, n_seeds, study.smallest_effect) for family in estimable]
    line = (
        f"the difference that {count(n_seeds, 'seed')} can detect is unknown: at least "
        f"one level and the baseline must have finished under {MIN_PAIRS} common seeds, with "
        "differences that vary"
    )
    if n_seeds > MIN_PAIRS:
        line += f". Run a pilot first (--set seeds={MIN_PAIRS})"
    return [line]


def list_deviations(differences: Sequence[Mapping[int, float]]) -> list[float]:
    """Return the positive standard deviations of comparisons with at least MIN_PAIRS pairs.

    Args:
        differences: Seed -> difference, for each comparison.
    """
    samples = [list(pairs.values()) for pairs in differences if len(pairs) >= MIN_PAIRS]
    return [deviation for values in samples if (deviation := statistics.stdev(values)) > 0]


def _format_family(family: Family, n_seeds: int, smallest_effect: float) -> str:
    """Return a family's line: the detectable difference, and the seeds that other ones need.

    The others are half of the detectable difference, and `smallest_effect`.
    """
    deviations = list_deviations(family.differences_by_seed)
    n_tests = len(family.differences_by_seed)
    # the detectable difference is proportional to the deviation, so this gives its median
    deviation = statistics.median(deviations)
    targets = {smallest_effect}
    detectable = compute_minimum_detectable(deviation, n_seeds, n_tests)
    result = "cannot detect any difference"
    if detectable is not None:
        targets.add(float(f"{detectable / 2:.2g}"))
        result = f"can detect differences in {family.heading} of {detectable:.2g} points or more"
    basis = f"with 80% power; median of {count(len(deviations), 'comparison')}"
    statements = [f"{family.name}: {count(n_seeds, 'seed')} {result} ({basis})"]
    for effect in sorted(targets, reverse=True):
        n_needed = count_needed_seeds(deviation, n_tests, effect)
        needed_text = f"more than {MAX_SEEDS:,} seeds"
        if n_needed:
            needed_text = f"about {count(n_needed, 'seed')}"
        extra_seconds = ((n_needed or 0) - n_seeds) * family.seconds_per_extra_seed
        cost = f" (+{format_duration(extra_seconds)} of computing)" if extra_seconds > 0 else ""
        points = "point" if effect == 1 else "points"
        statements.append(f"{effect:g} {points} need {needed_text}{cost}")
    return "; ".join(statements)


def count_needed_seeds(deviation: float, n_tests: int, effect: float) -> int | None:
    """Return the number of seeds needed to detect a difference. None if more than MAX_SEEDS.

    Args:
        deviation: Standard deviation of paired differences.
        n_tests: Number of comparisons in the family.
        effect: The difference.
    """
    # `compute_minimum_detectable` returns None for one seed, which counts as 0 here: starts at 2
    n_seeds = bisect_left(
        range(MAX_SEEDS + 1),
        True,
        lo=2,
        key=lambda n: (compute_minimum_detectable(deviation, n, n_tests) or 0.0) <= effect,
    )
    return n_seeds if n_seeds <= MAX_SEEDS else None
