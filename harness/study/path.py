"""`--path`: what the path from the baseline to the setting that selection prefers lacks.

It changes one factor at a time (reports.analysis.ablation_path). What it looks at and the store
does not have is run, under all of the study's seeds and to the end, until nothing is missing. Test
results decide nothing of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config import StudyConfig, baseline, levels
from harness.errors import ConfigError
from harness.planning import label_of
from harness.wording import count

MOST_NAMED = 4  # settings that a line names
_SCORED = ("pseudo_new", "base_val", "few_val")  # selection rules that look at no test picture
_DATASET = "dataset"  # which a path's grid averages over
# Factors whose levels are tested on classes of their own: they are not compared.
_OTHER_CLASSES = ("unseen_class", "targets")

Assignment = dict[str, Any]


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


def with_path(study: StudyConfig, uri: str, before: StudyConfig) -> tuple[StudyConfig, str]:
    """The study with what its path lacks, by what has finished, and a line about the path.

    Args:
        study: without what a path adds to it.
        uri: of the store.
        before: the study that has run, with what was added to it.
    """
    if _is_short(study):
        why = "with fewer than two factors no setting lies between two others"
        return study, f"path: nothing is missing, as {why}"
    # Light until somebody asks for a path: reports.analysis brings polars and scipy.
    from reports.analysis import NoBaseline, Unavailable, load_path

    added = before.for_path
    try:
        found = load_path(study.name, uri)
    except NoBaseline as error:
        lacks = _everywhere(study, {k: v for k, v in baseline(study).items() if k != _DATASET})
        new = [one for one in lacks if one not in added]
        line = f"path: its first setting, the baseline, is missing: {_named(lacks)}"
        line = line if new else f"no path: {error}"
    except Unavailable as error:
        return before, f"no path: {error}"
    else:
        lacks = [one for part in found.missing for one in _everywhere(study, part)]
        new = [one for one in lacks if one not in added]
        target, steps = _ordered(study, found.target), len(found.steps)
        line = _path_line(target, steps, new or lacks, failed=bool(lacks) and not new)
    return study.model_copy(update={"for_path": (*added, *new)}), line


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
