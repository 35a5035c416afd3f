"""A study that is run round by round: what the next one wants follows from finished rows alone.

So the same command goes on where the last one was stopped. `--detect` gives more seeds to what is
undecided (detect.py). `--path` runs, after a study's own settings, those that its path from the
baseline lacks: the path goes to the setting that selection prefers, one factor at a time
(reports.analysis.ablation_path). What it looks at and the store does not have is run, under all of
the study's seeds and to the end, until nothing is missing. Test results decide nothing of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.config import StudyConfig, baseline, levels
from harness.errors import ConfigError
from harness.planning import Plan, Say, StudyOutcome, label_of
from harness.study.detect import check_detect, next_seeds, stored_values
from harness.wording import rounds_faults

# Seeds are given out at most 40 times (reports.stats.stages). A path's round brings it a step
# nearer to its end, or ends it earlier, at a better setting.
MOST_ROUNDS = 60
MOST_NAMED = 4  # settings that a line names
_SCORED = ("pseudo_new", "base_val", "few_val")  # selection rules that look at no test picture
# Factors whose levels are tested on classes of their own; datasets of a grid are averaged over.
_APART = ("unseen_class", "targets")
_DATASET = "dataset"

Assignment = dict[str, Any]


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
        detect: points that a difference matters from; see harness.study.detect.
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
    wanted = next_round(None)
    for line in wanted.lines:
        say(line)
    outcome = run(wanted.study)
    for _ in range(MOST_ROUNDS):
        # where the same command would run more, what has finished may not be the last word
        if outcome.interrupted or not outcome.done or not (outcome.complete or outcome.final):
            return outcome
        before, wanted = wanted, next_round(wanted)
        for line in wanted.lines if wanted.lines != before.lines else ():
            say(line)
        if wanted.study == before.study:
            return outcome
        outcome = run(wanted.study)
    say(f"after {MOST_ROUNDS} rounds there is still something to run; the same command goes on")
    return outcome


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
    apart = [*_APART, *([_DATASET] if study.sampler != "grid" else [])]
    lines += [
        f"--path needs settings that are tested on the same classes, got {key} among the factors"
        for key in study.space
        if key in apart
    ]
    lines += [
        f"--path needs space.{key}.baseline, which a range has where its constant lies within it"
        for key, factor in study.space.items()
        if factor.is_range and factor.baseline is None
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
        return f"{where}: nothing is missing, {steps} step{'' if steps == 1 else 's'}"
    many = "1 setting" if len(lacks) == 1 else f"{len(lacks)} settings"
    return f"{where} lacks {many}{' that did not finish' if failed else ''}: {_named(lacks)}"


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
