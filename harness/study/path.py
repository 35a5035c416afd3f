"""`--path`: after a study's own settings, those that its path from the baseline lacks.

The path goes from the baseline to the setting that selection prefers, one factor at a time
(reports.analysis.ablation_path). What it looks at and the store does not have is run, under all of
the study's seeds and to the end, until nothing is missing. Test results decide nothing of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import StudyConfig, baseline, levels
from harness.errors import ConfigError
from harness.planning import Plan, Say, StudyOutcome, label_of
from harness.store import default_uri

# Each round brings the path a step nearer to its end, or ends it earlier, at a better setting.
MOST_ROUNDS = 30
MOST_NAMED = 4  # settings that a line names
_SCORED = ("pseudo_new", "base_val", "few_val")  # selection rules that look at no test picture
# Factors whose levels are tested on classes of their own; datasets of a grid are averaged over.
_APART = ("unseen_class", "targets")
_DATASET = "dataset"

Assignment = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """What is to be run next.

    added: assignments beside the study's own; as before where there is nothing more to ask for.
    line: what is said of the path as it is now.
    """

    added: tuple[Assignment, ...]
    line: str


def run_path(
    study: StudyConfig, run: Callable[[StudyConfig], StudyOutcome], say: Say
) -> StudyOutcome:
    """Run a study, then round by round what its path lacks.

    Every round follows from finished rows alone, so that the same call goes on where the last one
    was stopped.

    Args:
        study: the study.
        run: brings a study about; harness.study.run_study.
        say: told a line of the path before each round and at the end.

    Returns:
        What the last round has come to.

    Raises:
        ConfigError: see check_path.
    """
    check_path(study)
    outcome, added = run(study), ()  # type: tuple[StudyOutcome, tuple[Assignment, ...]]
    for _ in range(MOST_ROUNDS):
        if not _is_settled(outcome):
            return outcome
        stage = next_stage(study, added, outcome.tracking_uri)
        say(stage.line)
        if stage.added == added:
            return outcome
        added = stage.added
        outcome = run(study.model_copy(update={"added": added}))
    say(f"path: not whole after {MOST_ROUNDS} rounds; the same command goes on")
    return outcome


def path_stage(study: StudyConfig, plan: Callable[[StudyConfig], Plan]) -> tuple[StudyConfig, str]:
    """The study with what the next round would add to it, and what is said of the path.

    Args:
        study: whose store is that of a run in this folder.
        plan: what is left of a study.

    Raises:
        ConfigError: see check_path.
    """
    check_path(study)
    if not plan(study).finished:
        return study, "path: what it lacks is known once the study's own settings have run"
    stage = next_stage(study, (), default_uri(Path.cwd()))
    return study.model_copy(update={"added": stage.added}), stage.line


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


def next_stage(study: StudyConfig, added: Sequence[Assignment], uri: str) -> Stage:
    """What the path lacks, by what has finished.

    Args:
        study: its own settings are settled.
        added: what has been asked for before.
        uri: of the store.
    """
    if _is_short(study):
        why = "with fewer than two factors no setting lies between two others"
        return Stage(tuple(added), f"path: nothing is missing, as {why}")
    # Light until somebody asks for a path: reports.analysis brings polars and scipy.
    from reports.analysis import NoBaseline, PathState, load_path

    found = load_path(study.name, uri)
    if isinstance(found, PathState):
        lacks = [one for part in found.missing for one in _everywhere(study, part)]
    elif isinstance(found, NoBaseline):
        lacks = _everywhere(study, {k: v for k, v in baseline(study).items() if k != _DATASET})
    else:
        return Stage(tuple(added), f"no path: {found.why}")
    new = [one for one in lacks if one not in added]
    if isinstance(found, PathState):
        target = _ordered(study, found.target)
        line = _line(target, found.steps, new or lacks, failed=bool(lacks) and not new)
    else:
        line = f"path: its first setting, the baseline, is missing: {_named(lacks)}"
        line = line if new else f"no path: {found.why}"
    return Stage((*added, *new), line)


def _line(
    target: Mapping[str, Any], steps: int, lacks: Sequence[Assignment], *, failed: bool
) -> str:
    """E.g. "path from the baseline to n_ctx=8, shots=4: nothing is missing, 2 steps"."""
    where = f"path from the baseline to {label_of(target)}"
    if not lacks:
        if not steps:
            return f"path: selection prefers the baseline, {label_of(target)}: nothing is missing"
        return f"{where}: nothing is missing, {steps} step{'' if steps == 1 else 's'}"
    many = "1 setting" if len(lacks) == 1 else f"{len(lacks)} settings"
    why = " that did not finish" if failed else ""
    return f"{where} lacks {many}{why}: {_named(lacks)}"


def _named(settings: Sequence[Assignment]) -> str:
    more = len(settings) - MOST_NAMED
    rest = [f"and {more} more"] if more > 0 else []
    return "; ".join([*map(label_of, settings[:MOST_NAMED]), *rest])


def _is_settled(outcome: StudyOutcome) -> bool:
    """Whether there are results, and the same command would run nothing more."""
    return bool(outcome.done) and not outcome.interrupted and (outcome.complete or outcome.final)


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
