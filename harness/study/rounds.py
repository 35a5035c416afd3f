"""A study that is run round by round: what the next one wants follows from finished rows alone.

So the same command goes on where the last one was stopped. `--detect POINTS` gives seeds to those
comparisons that are still undecided. `--path` runs, after a study's own settings, those that its
path from the baseline lacks.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

from harness.config import StudyConfig
from harness.errors import ConfigError
from harness.planning import Plan, Say, StudyOutcome
from harness.study.detect import check_detect, next_seeds, stored_values
from harness.study.path import check_path, with_path
from harness.wording import rounds_faults

# Seeds are given out at most 40 times (reports.stats.stages). A path's round brings it a step
# nearer to its end, or ends it earlier, at a better setting.
MOST_ROUNDS = 60


class Round(NamedTuple):
    """What is wanted of a study now, and what is said of it."""

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

        def path_round(before: Round | None) -> Round:
            """The study itself, then with what its path lacks."""
            if before is None:
                return Round(study)
            wanted, line = with_path(study, uri, before.study)
            return Round(wanted, (line,))

        return path_round
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
    before: Round | None = None
    for number in itertools.count():
        wanted = next_round(before)
        for line in wanted.lines if before is None or wanted.lines != before.lines else ():
            say(line)
        if before is not None and wanted.study == before.study:
            break
        outcome, before = run(wanted.study), wanted
        # where the same command would run more, what has finished may not be the last word
        if outcome.interrupted or not outcome.done or not (outcome.complete or outcome.final):
            break
        if number == MOST_ROUNDS:
            say(f"after {number} rounds there is still something to run; the same command goes on")
            break
    return outcome
