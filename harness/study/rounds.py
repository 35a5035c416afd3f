"""A study that is run round by round: what the next one wants follows from finished rows alone.

So the same command goes on where the last one was stopped. `--detect POINTS` gives seeds to those
comparisons with the baseline that are still undecided, by paired differences and tests of reports'
own, which the tables show.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.config import MAX_SEEDS, Detection, StudyConfig, baseline
from harness.errors import ConfigError
from harness.planning import (
    Say,
    Setting,
    SettingMaker,
    StudyOutcome,
    distinct,
    enumerate_settings,
    matched_controls,
)
from reports.contract import APART, PROTOCOLS, ReportError, count

if TYPE_CHECKING:
    from reports.stats import Compared

PILOTS = 6  # most seeds of a setting, in pilots, unless --max-seeds says otherwise
_PERCENT = 100.0

# setting key -> seed -> metric
Values = Mapping[str, Mapping[int, float]]
# What is wanted of a study now, and what is said of it.
Round = tuple[StudyConfig, tuple[str, ...]]


def rounds_of(
    maker: SettingMaker,
    uri: str,
    *,
    detect: float | None = None,
    max_seeds: int | None = None,
) -> Iterator[Round]:
    """The rounds of a study: one, unless seeds are given out.

    Each but the first is to be asked for once the one before has run.

    Args:
        maker: of the study's own settings.
        uri: of the store.
        detect: points that a difference matters from; see next_seeds.
        max_seeds: of a setting, with detect.

    Raises:
        ConfigError: the study cannot be asked for it, whatever its results are.
    """
    if max_seeds is not None and detect is None:
        raise ConfigError(["--max-seeds must come with --detect"])
    study = maker.study
    if detect is not None:
        check_detect(study, detect, max_seeds)
        while True:
            yield next_seeds(maker, detect, max_seeds, stored_values(study.name, uri))
    yield study, ()


def run_rounds(
    rounds: Iterator[Round], run: Callable[[StudyConfig], StudyOutcome], say: Say
) -> StudyOutcome:
    """Run round after round, until one wants what the last one did; what that has come to.

    It ends: seeds are given out at most 40 times (reports.stats.stages).

    Args:
        rounds: see rounds_of.
        run: brings a study about.
        say: told the lines of a round before it runs, and those of the last one, where they change.
    """
    before: StudyConfig | None = None
    said: tuple[str, ...] = ()
    for study, lines in rounds:
        for line in lines if lines != said else ():
            say(line)
        if study == before:
            break
        outcome = run(study)
        # where the same command would run more, what has finished may not be the last word
        if outcome.interrupted or not outcome.reportable or not (outcome.complete or outcome.final):
            break
        before, said = study, lines
    return outcome


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
    plain = (study.sampler, study.scheduler.name) == ("grid", "none")
    if not one_factor or not plain or pilot < 2:
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
    base, settings = maker(baseline(study)), enumerate_settings(maker)
    if base.key not in {one.key for one in settings}:
        must = f"the baseline ({base.label}) among the first {count(len(settings), 'setting')}"
        raise ConfigError([f"--detect needs {must}, which are all that trials leaves"])
    compared = [one for one in distinct([*settings, *maker.arms()]) if one.key != base.key]
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
    for setting in settings:  # a control at another level than the baseline's has its seeds
        for control in matched_controls(maker, [setting]):
            own.setdefault(control.key, own[setting.key])
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
