"""`--detect POINTS`: seeds for those comparisons with the baseline that are still undecided."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.config import MAX_SEEDS, Detection, StudyConfig
from harness.errors import ConfigError
from harness.planning import Plan, Setting, study_prunes
from reports.contract import PROTOCOLS, ReportError

if TYPE_CHECKING:
    from reports.stats import Ending

PILOTS = 6  # of which the most seeds of a setting consist, unless --max-seeds says otherwise
# Factors whose levels are tested on pictures of their own: they are not compared.
OTHER_PICTURES = ("dataset", "unseen_class")
_PERCENT = 100.0

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
    compared = len(space) == 1 and not set(space) & set(OTHER_PICTURES)
    bounded = most is None or pilot <= most <= MAX_SEEDS
    others = " and ".join(OTHER_PICTURES)
    one_factor = (
        f"--detect needs a space of one factor (other than {others}), whose levels are compared "
        f"with its baseline, got {', '.join(space)}"
    )
    faults = {
        f"--detect must be points > 0, got {effect:g}": not 0 < effect < float("inf"),
        f"--detect needs sampler: grid, got {study.sampler}": study.sampler != "grid",
        f"--detect needs scheduler: none, got {study.scheduler.name}": study_prunes(study),
        one_factor: not compared,
        "--detect needs seeds to be at least 2: they are its pilot, got 1": pilot < 2,
        f"--max-seeds must be from {pilot} (seeds) to {MAX_SEEDS}, got {most}": not bounded,
    }
    lines = [line for line, there in faults.items() if there]
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
    study: StudyConfig, effect: float, most: int | None, plan: Plan, values: Values
) -> tuple[StudyConfig, tuple[str, ...]]:
    """The study with the seeds that each setting is wanted for next, by what has finished.

    The comparisons with the fewest looks go first; the baseline has all seeds that any has.

    Args:
        study, effect, most: see check_detect.
        plan: of the study; it knows the settings.
        values: of finished rows.

    Returns:
        The study, and a line for each comparison that has seeds enough to say something.

    Raises:
        ConfigError: too many comparisons, or none.
    """
    from reports.stats import MOST_COMPARISONS, Design, endings, stages
    from reports.tables import differences, given_out

    (factor,) = study.space
    settings = [*plan.settings, *plan.equal_arms]
    level = study.space[factor].baseline
    base = next(one for one in settings if not one.arm and one.assignment[factor] == level)
    compared = [setting for setting in settings if setting is not base]
    if not 1 <= len(compared) <= MOST_COMPARISONS:
        must = f"from 1 to {MOST_COMPARISONS} comparisons with the baseline"
        raise ConfigError([f"--detect needs {must}, got {len(compared)}"])
    pilot = len(study.seeds)
    looks = stages(pilot, most or min(PILOTS * pilot, MAX_SEEDS))
    seeds, theirs = in_order(study.seeds, looks[-1]), values.get(base.key, {})
    family = [given_out(differences(values.get(one.key, {}), theirs), seeds) for one in compared]
    found = endings(Design(effect, looks, len(compared)), family, _PERCENT)
    endings_of = list(zip(compared, found, strict=True))
    # of those without enough seeds for the first look nothing is known
    through = [looks.index(one.seeds) + 1 if one else 0 for one in found if _goes_on(one)]
    waiting = [n for n in through if n < len(looks)]
    now = looks[min(waiting)] if waiting else 0
    own = {
        setting.key: seeds[: max(now if _goes_on(one) else 0, one.seeds if one else 0)]
        for setting, one in endings_of
    }
    listed = seeds[: max(map(len, own.values()))]
    metric = PROTOCOLS[study.trial.protocol].default
    update = {
        "seeds": listed,
        "own_seeds": {key: one for key, one in own.items() if one != listed},
        "detect": Detection(metric=metric, effect=effect, looks=looks, comparisons=len(compared)),
    }
    lines = [_line(setting, base, one, last=looks[-1]) for setting, one in endings_of if one]
    return study.model_copy(update=update), tuple(lines)


def in_order(pilot: Sequence[int], most: int) -> tuple[int, ...]:
    """The pilot's seeds, then the smallest numbers that are not among them, `most` in all."""
    others = [seed for seed in range(most + len(pilot)) if seed not in pilot]
    return (*pilot, *others)[:most]


def _goes_on(found: "Ending | None") -> bool:
    return found is None or found.decision == "open"


def _line(setting: Setting, baseline: Setting, found: "Ending", last: int) -> str:
    """E.g. "n_ctx=8 against n_ctx=4: -0.20 [-0.70, 0.30], equivalent after 10 seeds"."""
    low, high = found.difference.low, found.difference.high
    interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    words = {
        "constant": "does not vary, left at",
        "open": "undecided after" if found.seeds == last else "open after",
    }.get(found.decision, f"{found.decision} after")
    both = f"{setting.label} against {baseline.label}"
    return f"{both}: {found.difference.mean:.2f}{interval}, {words} {found.seeds} seeds"
