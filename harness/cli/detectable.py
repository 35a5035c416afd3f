"""How small a difference a study's seeds will show: a note of the dry run."""

import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from harness.config import StudyConfig
from harness.wording import count, duration
from reports.errors import ReportError
from reports.stats import minimum_detectable
from reports.tables import Family, load_families

FEWEST_PAIRS = 3  # that a difference's deviation is told from
MOST_SEEDS = 100_000  # that are looked at


def detectable_lines(study: StudyConfig, uri: str) -> list[str]:
    """How small a difference the study's seeds will show, and what smaller ones would take.

    Args:
        study: with its seeds.
        uri: of the store.
    """
    try:
        found = load_families(study.name, uri)
    except ReportError:  # no store, no such study, or nothing finished: the plan says so
        found = []
    if found and not any(family.comparable and family.pairs for family in found):
        return []
    seeds, known = len(study.seeds), [one for one in found if deviations(one.differences)]
    return [_shown(family, seeds, study.smallest_effect) for family in known] or [
        f"which differences {count(seeds, 'seed')} would show can be told from at least "
        f"{FEWEST_PAIRS} finished pairs of a level and the baseline that differ, e.g. those of a "
        f"pilot: --set seeds={FEWEST_PAIRS}"
    ]


def deviations(differences: Sequence[Mapping[int, float]]) -> list[float]:
    """The standard deviation of each comparison with enough pairs, and with a spread.

    What is detected is proportional to it, so the median of the one is that of the other.
    """
    found = [list(one.values()) for one in differences if len(one) >= FEWEST_PAIRS]
    return [deviation for values in found if (deviation := statistics.stdev(values)) > 0]


def _shown(family: Family, seeds: int, smallest_effect: float) -> str:
    """Of one family: what the seeds show, then what half of that and what matters would take."""
    spread = deviations(family.differences)
    middle, tests = statistics.median(spread), len(family.differences)
    targets = {smallest_effect}
    shown, least = minimum_detectable(middle, seeds, tests), "no difference"
    if shown is not None:
        targets.add(float(f"{shown / 2:.2g}"))
        least = f"differences in {family.head} of {shown:.2g} points or more"
    of = count(len(spread), "comparison")
    told = [f"{family.name}: {count(seeds, 'seed')} show {least} (with 80% power; median of {of})"]
    for effect in sorted(targets, reverse=True):
        needed = seeds_for(middle, tests, effect)
        many = f"about {count(needed, 'seed')}" if needed else f"more than {MOST_SEEDS:,} seeds"
        more = ((needed or 0) - seeds) * family.seconds
        cost = f" (+{duration(more)} of computing)" if more > 0 else ""
        points = "point" if effect == 1 else "points"
        told.append(f"for {effect:g} {points} {many}{cost}")
    return "; ".join(told)


def seeds_for(deviation: float, tests: int, effect: float) -> int | None:
    """The fewest seeds that show a difference in a family; None: more than MOST_SEEDS.

    Args:
        deviation: of paired differences.
        tests: comparisons of the family.
        effect: the difference.
    """
    # that a single seed shows no difference counts as enough: the search begins above it
    found = bisect_left(
        range(MOST_SEEDS + 1),
        True,
        lo=2,
        key=lambda n: (minimum_detectable(deviation, n, tests) or 0.0) <= effect,
    )
    return found if found <= MOST_SEEDS else None
