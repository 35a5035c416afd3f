"""How small a difference the seeds of a study will show.

Told from paired differences and tests of reports' own, which the tables show.
"""

import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.config import StudyConfig
from harness.wording import count, duration
from reports.contract import ReportError

if TYPE_CHECKING:
    from reports.tables import Family

# of each comparison of a family: seed -> difference
Differences = Sequence[Mapping[int, float]]
FEWEST_PAIRS = 3  # of two, the deviation is hardly known
MOST_SEEDS = 100_000


def detectable_lines(study: StudyConfig, uri: str) -> list[str]:
    """How small a difference the study's seeds will show, and what smaller ones would take.

    Args:
        study: with its seeds.
        uri: of the store.
    """
    from reports.tables import load_families

    try:
        found = load_families(study.name, uri)
    except ReportError:  # no store, no such study, or nothing finished: the plan says so
        found = []
    if found and not any(family.comparable for family in found):
        return []  # its levels are of different pictures
    if found and not any(pair for family in found for pair in family.pairs):
        return []  # nothing stands beside it
    known = [family for family in found if _deviations(family.differences)]
    if known:
        lines = [_line(family, len(study.seeds), study.smallest_effect) for family in known]
        heads = [f"{family.name}: " if len(known) > 1 else "" for family in known]
        return [f"{head}{line}" for head, line in zip(heads, lines, strict=True)]
    if any(len(one) >= FEWEST_PAIRS for family in found for one in family.differences):
        return [
            "which differences the seeds would show cannot be told: the finished pairs of a level "
            "and the baseline do not vary"
        ]
    return [
        f"which differences {count(len(study.seeds), 'seed')} would show can be told from at least "
        f"{FEWEST_PAIRS} finished pairs of a level and the baseline, e.g. those of a pilot: "
        f"--set seeds={FEWEST_PAIRS}"
    ]


def _line(family: "Family", seeds: int, smallest_effect: float) -> str:
    """Of one family: what the seeds show, then what half of that and what matters would take."""
    pairs, shown = family.differences, smallest_shown(family.differences, seeds)
    counts = [n for n, _ in _deviations(pairs)]
    of = "1 comparison" if len(counts) == 1 else f"median of {len(counts)} comparisons"
    spread = " to ".join(str(n) for n in sorted({min(counts), max(counts)}))
    targets = {smallest_effect}
    told = [f"{count(seeds, 'seed')} show no difference, as no deviation can be told from one pair"]
    if shown is not None:
        targets.add(float(f"{shown / 2:.2g}"))
        told = [
            f"{count(seeds, 'seed')} show differences in {family.head} of {shown:.2g} points or "
            f"more (with 80% power; {of}, from {spread} finished pairs each)"
        ]
    for effect in sorted(targets, reverse=True):
        needed, points = seeds_for(pairs, effect), "point" if effect == 1 else "points"
        many = f"about {count(needed, 'seed')}" if needed else f"more than {MOST_SEEDS:,} seeds"
        more = ((needed or 0) - seeds) * family.seconds
        cost = f" (+{duration(more)} of computing)" if more > 0 else ""
        told.append(f"for {effect:g} {points} {many}{cost}")
    return "; ".join(told)


def smallest_shown(differences: Differences, seeds: int) -> float | None:
    """The median over comparisons of the differences that so many seeds show; None: no difference.

    Args:
        differences: of each comparison of a family, by seed; of at least one FEWEST_PAIRS of them.
        seeds: of each setting.
    """
    from reports.stats import minimum_detectable

    return minimum_detectable(_middle(differences), seeds, len(differences))


def seeds_for(differences: Differences, effect: float) -> int | None:
    """The fewest seeds that show a difference in half of a family; None: more than MOST_SEEDS."""
    from reports.stats import minimum_detectable

    middle, tests = _middle(differences), len(differences)
    # that a single seed shows no difference counts as enough: the search begins above it
    found = bisect_left(
        range(MOST_SEEDS + 1),
        True,
        lo=2,
        key=lambda n: (minimum_detectable(middle, n, tests) or 0.0) <= effect,
    )
    return found if found <= MOST_SEEDS else None


def _middle(differences: Differences) -> float:
    """The median deviation: what is detected is proportional to it, so its median is that of it."""
    return statistics.median(std for _, std in _deviations(differences))


def _deviations(differences: Differences) -> list[tuple[int, float]]:
    """Pairs and standard deviation of each comparison with enough of them, and with a spread."""
    found = [list(one.values()) for one in differences if len(one) >= FEWEST_PAIRS]
    spread = [(len(values), statistics.stdev(values)) for values in found]
    return [(n, deviation) for n, deviation in spread if deviation > 0]
