"""A study that is run round by round: what the next one wants follows from finished rows alone.

So the same command goes on where the last one was stopped. `--detect POINTS` gives seeds to those
comparisons that are still undecided (detect.py). `--path` runs, after a study's own settings, those
that its path from the baseline to the setting that selection prefers lacks, under all of the
study's seeds and to the end. The path changes one factor at a time (reports.analysis), and test
results decide nothing of it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.config import StudyConfig, baseline, levels
from harness.errors import ConfigError
from harness.planning import Fingerprints, Say, SettingMaker, StudyOutcome, label_of
from harness.study.detect import check_detect, next_seeds, stored_values
from reports.contract import count

MOST_NAMED = 4  # settings that a line names
_SCORED = ("pseudo_new", "base_val", "few_val")  # selection rules that look at no test picture
_DATASET = "dataset"  # which a path's grid averages over

Assignment = dict[str, Any]


# What is wanted of a study now, and what is said of it.
Round = tuple[StudyConfig, tuple[str, ...]]


def rounds_of(
    study: StudyConfig,
    prints: Fingerprints,
    uri: str,
    *,
    detect: float | None = None,
    max_seeds: int | None = None,
    path: bool = False,
) -> Iterator[Round]:
    """The rounds of a study: one, unless seeds are given out, or a path is filled.

    Each but the first is to be asked for once the one before has run.

    Args:
        study: its own settings and seeds.
        prints: of its data and weights.
        uri: of the store.
        detect: points that a difference matters from; see next_seeds.
        max_seeds: of a setting, with detect.
        path: whether to run what the path lacks.

    Raises:
        ConfigError: the study cannot be asked for it, whatever its results are.
    """
    if max_seeds is not None and detect is None:
        raise ConfigError(["--max-seeds must come with --detect"])
    if path and detect is not None:
        raise ConfigError(["--path must come without --detect"])
    if detect is not None:
        check_detect(study, detect, max_seeds)
        maker = SettingMaker(study, prints)
        while True:
            yield next_seeds(maker, detect, max_seeds, stored_values(study.name, uri))
    if path:
        check_path(study)
    wanted = study
    yield wanted, ()
    while path:  # the study itself has tables by now, which a path is read from
        wanted, lines = path_round(study, uri, wanted)
        yield wanted, lines


def run_rounds(
    rounds: Iterator[Round], run: Callable[[StudyConfig], StudyOutcome], say: Say
) -> StudyOutcome:
    """Run round after round, until one wants what the last one did; what that has come to.

    It ends: seeds are given out at most 40 times (reports.stats.stages), and each round of a path
    adds settings to those that were added before.

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
        if outcome.interrupted or not outcome.done or not (outcome.complete or outcome.final):
            break
        before, said = study, lines
    return outcome


def check_path(study: StudyConfig) -> None:
    """Refuse what can have no path, whatever its results are.

    Raises:
        ConfigError: a line for each reason.
    """
    rules = levels(study, "selection") if "selection" in study.space else [study.trial.selection]
    lines = []
    if not rules or len(rules) > 1 or rules[0] not in _SCORED:
        names = ", ".join(map(str, rules or ()))
        lines.append(f"--path needs selection to be one of {', '.join(_SCORED)}, got {names}")
    lines += [
        f"--path needs space.{key}.baseline, which a range has where its constant lies within it"
        for key, factor in study.space.items()
        if factor.choices is None and factor.baseline is None
    ]
    if lines:
        raise ConfigError(lines)


def path_round(study: StudyConfig, uri: str, before: StudyConfig) -> Round:
    """The study with what its path lacks, by what has finished, and a line about the path.

    Args:
        study: without what a path adds to it.
        uri: of the store.
        before: the study that has run, with what was added to it.
    """
    # Light until somebody asks for a path: reports.analysis brings polars and scipy.
    from reports.analysis import NoBaseline, Unavailable, load_path

    added, lacks = before.for_path, list[Assignment]()
    try:
        found = load_path(study.name, uri)
    except NoBaseline as error:
        start = {key: level for key, level in baseline(study).items() if key != _DATASET}
        lacks, told = _everywhere(study, start), "path: its first setting, the baseline, is missing"
        if all(one in added for one in lacks):
            lacks, told = [], f"no path: {error}"
    except Unavailable as error:
        told = f"no path: {error}"
    else:
        lacks = [one for part in found.missing for one in _everywhere(study, part)]
        told = f"path from the baseline to {label_of(_ordered(study, found.target))}"
        nothing = f": nothing is missing, {count(len(found.stops) - 1, 'step')}"
        told += f" lacks {count(len(lacks), 'setting')}" if lacks else nothing
    if not lacks:
        return before, (told,)
    new = [one for one in lacks if one not in added]
    named = "; ".join(map(label_of, lacks[:MOST_NAMED]))
    if len(lacks) > MOST_NAMED:
        named += "; ..."
    wanted = study.model_copy(update={"for_path": (*added, *new)})
    return wanted, (f"{told}: {named}",)


def _everywhere(study: StudyConfig, assignment: Mapping[str, Any]) -> list[Assignment]:
    """An assignment, or where it has no dataset and the study several, one for each of them."""
    if _DATASET not in study.space or _DATASET in assignment:
        return [_ordered(study, assignment)]
    return [_ordered(study, {**assignment, _DATASET: one}) for one in levels(study, _DATASET) or ()]


def _ordered(study: StudyConfig, assignment: Mapping[str, Any]) -> Assignment:
    """An assignment in the order of the study's factors."""
    return {key: assignment[key] for key in study.space if key in assignment}
