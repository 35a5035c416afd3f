"""What the seeds of a study will show: the sentences of `--dry-run` on the smallest difference."""

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from harness.wording import duration

if TYPE_CHECKING:
    from harness.config import StudyConfig
    from reports.tables import Family

FEWEST_PAIRS = 3  # of two, the deviation is hardly known
MOST_SEEDS = 100_000


def detectable_lines(study: "StudyConfig") -> list[str]:
    """How small a difference the study's seeds will show, and what smaller ones would take.

    Args:
        study: with its seeds; the store is the one of a run in this folder.
    """
    from harness.store import default_uri
    from reports.contract import ReportError
    from reports.tables import load_families

    try:
        found = load_families(study.name, default_uri(Path.cwd()))
    except ReportError:  # no store, no such study, or nothing finished: the plan says so
        found = []
    known = [family for family in found if _deviations(family)]
    pairs = [one.differences for family in found for one in family.comparisons]
    if not known and any(len(one) >= FEWEST_PAIRS for one in pairs):
        return [
            "which differences the seeds would show cannot be told: the finished pairs of a level "
            "and the baseline do not vary"
        ]
    if not known:
        return [
            f"which differences {_seeds(len(study.seeds))} would show can be told from at least "
            f"{FEWEST_PAIRS} finished pairs of a level and the baseline, e.g. those of a pilot: "
            f"--set seeds={FEWEST_PAIRS}"
        ]
    several = len(known) > 1
    lines = [_line(family, len(study.seeds), study.smallest_effect) for family in known]
    return [
        f"{family.name}: {line}" if several else line
        for family, line in zip(known, lines, strict=True)
    ]


def _line(family: "Family", seeds: int, smallest_effect: float) -> str:
    """Of one family: what the seeds show, then what half of that and what matters would take."""
    shown = smallest_shown(family, seeds)
    pairs = [n for n, _ in _deviations(family)]
    of = "1 comparison" if len(pairs) == 1 else f"median of {len(pairs)} comparisons"
    spread = f"{min(pairs)} to {max(pairs)}" if min(pairs) < max(pairs) else f"{pairs[0]}"
    targets = {smallest_effect}
    head = f"{_seeds(seeds)} show no difference, as no deviation can be told from one pair"
    if shown is not None:
        targets.add(float(f"{shown / 2:.2g}"))
        head = (
            f"{_seeds(seeds)} show differences in {family.metric} of {shown:.2g} points or more "
            f"(with 80% power; {of}, from {spread} finished pairs each)"
        )
    told = [_needed(family, seeds, target) for target in sorted(targets, reverse=True)]
    return "; ".join([head, *told])


def _needed(family: "Family", seeds: int, effect: float) -> str:
    """How many seeds show an effect, and what those beyond the asked ones cost."""
    needed = seeds_for(family, effect)
    if needed is None:
        return f"for {_points(effect)} more than {MOST_SEEDS:,} seeds"
    more = (needed - seeds) * family.seconds
    cost = f" (+{duration(more)} of computing)" if more > 0 else ""
    return f"for {_points(effect)} about {_seeds(needed)}{cost}"


def _points(effect: float) -> str:
    return f"{effect:g} point{'' if effect == 1 else 's'}"


def smallest_shown(family: "Family", seeds: int) -> float | None:
    """The median over a family of the differences that so many seeds show; None: no difference.

    Args:
        family: with at least one comparison of FEWEST_PAIRS finished pairs.
        seeds: of each setting.
    """
    from reports.stats import minimum_detectable

    # proportional to the deviation, so that the median's is the median
    middle = statistics.median(std for _, std in _deviations(family))
    return minimum_detectable(middle, seeds, len(family.comparisons))


def seeds_for(family: "Family", effect: float) -> int | None:
    """The fewest seeds that show a difference in half of a family; None: more than MOST_SEEDS."""
    few, many = 1, MOST_SEEDS
    if (smallest_shown(family, many) or 0.0) > effect:
        return None
    while many - few > 1:  # `few` are too few, `many` are enough
        middle = (few + many) // 2
        if (smallest_shown(family, middle) or 0.0) > effect:
            few = middle
        else:
            many = middle
    return many


def _deviations(family: "Family") -> list[tuple[int, float]]:
    """Pairs and standard deviation of each comparison with enough of them, and with a spread."""
    return [
        (len(one.differences), one.deviation)
        for one in family.comparisons
        if len(one.differences) >= FEWEST_PAIRS and one.deviation > 0
    ]


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"
