"""How many seeds: what those of a study will show, and `--detect POINTS`, which gives more.

`--detect` gives them to those comparisons with the baseline that are still undecided. All is told
from paired differences and tests of reports' own, which the tables show.
"""

import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.config import MAX_SEEDS, Detection, StudyConfig, baseline
from harness.errors import ConfigError
from harness.planning import Setting, SettingMaker, enumerate_settings, study_prunes
from harness.wording import duration
from reports.contract import APART, PROTOCOLS, ReportError, count

if TYPE_CHECKING:
    from reports.stats import Compared
    from reports.tables import Family

PILOTS = 6  # most seeds of a setting, in pilots, unless --max-seeds says otherwise
_PERCENT = 100.0
FEWEST_PAIRS = 3  # that a difference's deviation is told from
MOST_SEEDS = 100_000  # that are looked at

# of each comparison of a family: seed -> difference
Differences = Sequence[Mapping[int, float]]
# setting key -> seed -> metric
Values = Mapping[str, Mapping[int, float]]


def check_detect(study: StudyConfig, effect: float, most: int | None) -> None:
    """Refuse what --detect cannot be asked of.

    Args:
        study: its seeds are the pilot's.
        effect: the difference that matters, in points.
        most: seeds of a setting; None: PILOTS times the pilot's.

    Raises:
        ConfigError: a line for each reason.
    """
    pilot, space = len(study.seeds), study.space
    lines: list[str] = []
    if not 0 < effect < float("inf"):
        lines.append(f"--detect must be points > 0, got {effect:g}")
    if most is not None and not pilot <= most <= MAX_SEEDS:
        lines.append(f"--max-seeds must be from {pilot} (seeds) to {MAX_SEEDS}, got {most}")
    one_factor = len(space) == 1 and not set(space) & set(APART)
    if not one_factor or study.sampler != "grid" or study_prunes(study) or pilot < 2:
        lines.append(
            f"--detect needs sampler: grid, scheduler: none, two seeds or more, and one factor "
            f"(other than {', '.join(APART)}), whose levels are compared with its baseline, got "
            f"{study.sampler}, {study.scheduler.name}, {count(pilot, 'seed')} and "
            f"{', '.join(space)}"
        )
    if lines:
        raise ConfigError(lines)


def stored_values(study_name: str, uri: str) -> Values:
    """The finished rows of a study in a store, {} without any."""
    from reports.tables import load_values

    try:
        return load_values(study_name, uri)
    except ReportError:  # no store, no such study, or nothing finished; a run says what is wrong
        return {}


def next_seeds(
    maker: SettingMaker, effect: float, most: int | None, values: Values
) -> tuple[StudyConfig, tuple[str, ...]]:
    """The study with the seeds that each setting is wanted for next, by what has finished.

    The comparisons with the fewest looks go first; the baseline has all seeds that any has.

    Args:
        maker: of the study's settings.
        effect, most: see check_detect.
        values: of finished rows.

    Returns:
        The study, and a line for each comparison that has seeds enough to say something.

    Raises:
        ConfigError: too many comparisons, or none.
    """
    from reports.stats import MOST_COMPARISONS, Design, endings, stages
    from reports.tables import differences, given_out

    study = maker.study
    base, arms = maker(baseline(study)), maker.arms()
    # an arm that equals a setting, be it the baseline, is a comparison of its own
    compared = [*arms, *(one for one in enumerate_settings(maker) if one.key != base.key)]
    if not 1 <= len(compared) <= MOST_COMPARISONS:
        must = f"from 1 to {MOST_COMPARISONS} comparisons with the baseline"
        raise ConfigError([f"--detect needs {must}, got {len(compared)}"])
    pilot = len(study.seeds)
    looks = stages(pilot, most or min(PILOTS * pilot, MAX_SEEDS))
    seeds, theirs = in_seed_order(study.seeds, looks[-1]), values.get(base.key, {})
    family = [given_out(differences(values.get(one.key, {}), theirs), seeds) for one in compared]
    found = endings(Design(effect, looks, len(compared)), family, _PERCENT)
    endings_of = list(zip(compared, found, strict=True))
    # of those without enough seeds for the first look nothing is known
    through = [looks.index(one.difference.n) + 1 if one else 0 for one in found if _goes_on(one)]
    waiting = [n for n in through if n < len(looks)]
    now = looks[min(waiting)] if waiting else 0
    own = {}
    for setting, one in endings_of:
        looked_at = one.difference.n if one else 0
        own[setting.key] = seeds[: max(looked_at, now) if _goes_on(one) else looked_at]
    listed = seeds[: max(map(len, own.values()))]
    metric = PROTOCOLS[study.trial.protocol].default
    update = {
        "seeds": listed,
        "own_seeds": {key: one for key, one in own.items() if one != listed},
        "detect": Detection(metric=metric, effect=effect, looks=looks, comparisons=len(compared)),
    }
    lines = [_line(setting, base, one) for setting, one in endings_of if one]
    return study.model_copy(update=update), tuple(lines)


def in_seed_order(pilot: Sequence[int], most: int) -> tuple[int, ...]:
    """The pilot's seeds, then the smallest numbers that are not among them, `most` in all."""
    others = [seed for seed in range(most + len(pilot)) if seed not in pilot]
    return (*pilot, *others)[:most]


def _goes_on(found: "Compared | None") -> bool:
    return found is None or found.decision == "open"


def _line(setting: Setting, base: Setting, found: "Compared") -> str:
    """E.g. "n_ctx=8 against n_ctx=4: -0.20 [-0.70, 0.30], equivalent after 10 seeds"."""
    mean, low, high = found.difference.mean, found.difference.low, found.difference.high
    interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    both = f"{setting.label} against {base.label}"
    return f"{both}: {mean:.2f}{interval}, {found.decision} after {found.difference.n} seeds"


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
    if found and not any(family.comparable and family.pairs for family in found):
        return []
    seeds, known = len(study.seeds), [one for one in found if deviations(one.differences)]
    return [_shown(family, seeds, study.smallest_effect) for family in known] or [
        f"which differences {count(seeds, 'seed')} would show can be told from at least "
        f"{FEWEST_PAIRS} finished pairs of a level and the baseline that differ, e.g. those of a "
        f"pilot: --set seeds={FEWEST_PAIRS}"
    ]


def deviations(differences: Differences) -> list[float]:
    """The standard deviation of each comparison with enough pairs, and with a spread.

    What is detected is proportional to it, so the median of the one is that of the other.
    """
    found = [list(one.values()) for one in differences if len(one) >= FEWEST_PAIRS]
    return [deviation for values in found if (deviation := statistics.stdev(values)) > 0]


def _shown(family: "Family", seeds: int, smallest_effect: float) -> str:
    """Of one family: what the seeds show, then what half of that and what matters would take."""
    from reports.stats import minimum_detectable

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
    from reports.stats import minimum_detectable

    # that a single seed shows no difference counts as enough: the search begins above it
    found = bisect_left(
        range(MOST_SEEDS + 1),
        True,
        lo=2,
        key=lambda n: (minimum_detectable(deviation, n, tests) or 0.0) <= effect,
    )
    return found if found <= MOST_SEEDS else None
