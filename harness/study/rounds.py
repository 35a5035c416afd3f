"""A study that is run round by round: what the next one wants follows from finished rows alone.

So the same command goes on where the last one was stopped. `--detect POINTS` gives seeds to those
comparisons that are still undecided. `--path` runs, after a study's own settings, those that its
path from the baseline lacks: the path goes to the setting that selection prefers, one factor at a
time (reports.analysis.ablation_path). What it looks at and the store does not have is run, under
all of the study's seeds and to the end, until nothing is missing. Test results decide nothing of
it.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.config import MAX_SEEDS, Detection, StudyConfig, baseline, levels
from harness.errors import ConfigError
from harness.planning import Plan, Say, Setting, StudyOutcome, label_of, study_prunes
from harness.wording import count, rounds_faults
from reports.contract import PROTOCOLS, ReportError

if TYPE_CHECKING:
    from reports.stats import Ending

# Seeds are given out at most 40 times (reports.stats.stages). A path's round brings it a step
# nearer to its end, or ends it earlier, at a better setting.
MOST_ROUNDS = 60
PILOTS = 6  # of which the most seeds of a setting consist, unless --max-seeds says otherwise
MOST_NAMED = 4  # settings that a line names
_SCORED = ("pseudo_new", "base_val", "few_val")  # selection rules that look at no test picture
_DATASET = "dataset"  # which a path's grid averages over
# Factors whose levels are tested on pictures, or on classes, of their own: they are not compared.
_OTHER_PICTURES = (_DATASET, "unseen_class")
_OTHER_CLASSES = ("unseen_class", "targets")
_PERCENT = 100.0

Assignment = dict[str, Any]
# setting key -> seed -> metric
Values = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Round:
    """What is wanted of a study now, and what is said of it; without anything more, as before."""

    study: StudyConfig
    lines: tuple[str, ...] = ()


# What comes after a round that has run; None: the first one.
NextRound = Callable[[Round | None], Round]


def rounds_of(
    study: StudyConfig,
    plan: Callable[[StudyConfig], Plan],
    uri: str,
    *,
    detect: float | None = None,
    max_seeds: int | None = None,
    path: bool = False,
) -> NextRound:
    """The rounds of a study: one, unless seeds are given out, or a path is filled.

    Args:
        study: its own settings and seeds.
        plan: what is left of a study.
        uri: of the store.
        detect: points that a difference matters from; see next_seeds.
        max_seeds: of a setting, with detect.
        path: whether to run what the path lacks.

    Raises:
        ConfigError: the study cannot be asked for it, whatever its results are.
    """
    if faults := rounds_faults(detect, max_seeds, path):
        raise ConfigError(faults)
    if detect is not None:
        check_detect(study, detect, max_seeds)
        return lambda before: Round(
            *next_seeds(study, detect, max_seeds, plan(study), stored_values(study.name, uri))
        )
    if path:
        check_path(study)
        return partial(path_round, study, uri)
    return lambda before: Round(study)


def run_rounds(
    next_round: NextRound, run: Callable[[StudyConfig], StudyOutcome], say: Say
) -> StudyOutcome:
    """Run round after round, until one wants what the last one did; what that has come to.

    Args:
        next_round: see rounds_of.
        run: brings a study about.
        say: told the lines of a round before it runs, and those of the last one, where they change.
    """
    wanted, said = next_round(None), tuple[str, ...]()
    for rounds in itertools.count():
        for line in wanted.lines if wanted.lines != said else ():
            say(line)
        outcome, before, said = run(wanted.study), wanted, wanted.lines
        # where the same command would run more, what has finished may not be the last word
        if outcome.interrupted or not outcome.done or not (outcome.complete or outcome.final):
            break
        if rounds == MOST_ROUNDS:
            say(f"after {rounds} rounds there is still something to run; the same command goes on")
            break
        wanted = next_round(before)
        if wanted.study == before.study:
            for line in wanted.lines if wanted.lines != said else ():
                say(line)
            break
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
    compared = len(space) == 1 and not set(space) & set(_OTHER_PICTURES)
    bounded = most is None or pilot <= most <= MAX_SEEDS
    others = " and ".join(_OTHER_PICTURES)
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


def check_path(study: StudyConfig) -> None:
    """Refuse what can have no path, whatever its results are.

    Raises:
        ConfigError: a line for each reason.
    """
    if _is_short(study):
        return
    lines, rule = [], study.trial.selection
    if "selection" in study.space:
        lines.append("--path needs one selection rule, got selection among the factors")
    elif rule not in _SCORED:
        lines.append(f"--path needs selection to be {', '.join(_SCORED)}, got {rule}")
    apart = [*_OTHER_CLASSES, *([_DATASET] if study.sampler != "grid" else [])]
    lines += [
        f"--path needs settings that are tested on the same classes, got {key} among the factors"
        for key in study.space
        if key in apart
    ]
    lines += [
        f"--path needs space.{key}.baseline, which a range has where its constant lies within it"
        for key, factor in study.space.items()
        if factor.choices is None and factor.baseline is None
    ]
    if lines:
        raise ConfigError(lines)


def path_round(study: StudyConfig, uri: str, before: Round | None) -> Round:
    """The study itself, then what its path lacks, by what has finished.

    Args:
        study: without what a path adds to it.
        uri: of the store.
        before: the round that has run.
    """
    if before is None:
        return Round(study)
    if _is_short(study):
        why = "with fewer than two factors no setting lies between two others"
        return Round(study, (f"path: nothing is missing, as {why}",))
    # Light until somebody asks for a path: reports.analysis brings polars and scipy.
    from reports.analysis import NoBaseline, Unavailable, load_path

    added = before.study.for_path
    try:
        found = load_path(study.name, uri)
    except NoBaseline as error:
        lacks = _everywhere(study, {k: v for k, v in baseline(study).items() if k != _DATASET})
        new = [one for one in lacks if one not in added]
        line = f"path: its first setting, the baseline, is missing: {_named(lacks)}"
        line = line if new else f"no path: {error}"
    except Unavailable as error:
        return Round(before.study, (f"no path: {error}",))
    else:
        lacks = [one for part in found.missing for one in _everywhere(study, part)]
        new = [one for one in lacks if one not in added]
        target, steps = _ordered(study, found.target), len(found.steps)
        line = _path_line(target, steps, new or lacks, failed=bool(lacks) and not new)
    return Round(study.model_copy(update={"for_path": (*added, *new)}), (line,))


def _path_line(
    target: Mapping[str, Any], steps: int, lacks: Sequence[Assignment], *, failed: bool
) -> str:
    """E.g. "path from the baseline to n_ctx=8, shots=4: nothing is missing, 2 steps"."""
    where = f"path from the baseline to {label_of(target)}"
    if not lacks:
        if not steps:
            return f"path: selection prefers the baseline, {label_of(target)}: nothing is missing"
        return f"{where}: nothing is missing, {count(steps, 'step')}"
    many = f"{count(len(lacks), 'setting')}{' that did not finish' if failed else ''}"
    return f"{where} lacks {many}: {_named(lacks)}"


def _named(settings: Sequence[Assignment]) -> str:
    more = len(settings) - MOST_NAMED
    rest = [f"and {more} more"] if more > 0 else []
    return "; ".join([*map(label_of, settings[:MOST_NAMED]), *rest])


def _is_short(study: StudyConfig) -> bool:
    """Whether each setting is one step from each other, apart from datasets that are averaged."""
    return len([key for key in study.space if key != _DATASET or study.sampler != "grid"]) < 2


def _everywhere(study: StudyConfig, assignment: Mapping[str, Any]) -> list[Assignment]:
    """An assignment, or where it has no dataset and the study several, one for each of them."""
    if _DATASET not in study.space or _DATASET in assignment:
        return [_ordered(study, assignment)]
    return [_ordered(study, {**assignment, _DATASET: one}) for one in levels(study, _DATASET) or ()]


def _ordered(study: StudyConfig, assignment: Mapping[str, Any]) -> Assignment:
    """An assignment in the order of the study's factors."""
    return {key: assignment[key] for key in study.space if key in assignment}
