"""Divide the seeds of a plan's work among trials.

By default a configuration is one trial with all of its missing seeds, because seeds that are
trained together share the cost of each step. Its seeds are divided

- as in interrupted runs, whose checkpoints can only be resumed under the same seeds;
- if there are more free slots than trials.

The scheduler must not stop only a part of a configuration, so a trial that it may stop is not
divided.
"""

from collections.abc import Sequence

from harness.config import StudyConfig
from harness.planning.plan import Work, study_prunes
from harness.store import RunHistory, State


def divide_work(
    study: StudyConfig, works: Sequence[Work], history: RunHistory, slots: int
) -> list[Work]:
    """Return the trials that run a plan's work.

    Args:
        study: The study.
        works: Work of the plan: one per configuration, with all of its missing seeds.
        history: Run history of the study.
        slots: Number of trials that can run at once.

    Returns:
        The trials in the order of the works. Together they have the same configurations and seeds.

    Example:
        >>> work = Work(configuration, seeds=(0, 1, 2, 3, 4))  # doctest: +SKIP
        >>> trials = divide_work(study, [work], RunHistory(), slots=2)  # doctest: +SKIP
        >>> [trial.seeds for trial in trials]  # doctest: +SKIP
        [(0, 1), (2, 3, 4)]
    """
    trials, divisible = list[Work](), list[bool]()
    for work in works:
        may_divide = not (work.may_stop and study_prunes(study))
        resumable = _list_resumable_seeds(work, history) if may_divide else []
        resumed = {seed for seeds in resumable for seed in seeds}
        rest = tuple(seed for seed in work.seeds if seed not in resumed)
        groups = [*resumable, rest] if rest else resumable
        trials += [Work(work.configuration, seeds, work.may_stop) for seeds in groups]
        divisible += [may_divide and seeds not in resumable for seeds in groups]
    while len(trials) < slots:
        sizes = [
            len(trial.seeds) if may_divide else 0
            for trial, may_divide in zip(trials, divisible, strict=True)
        ]
        longest = max(sizes, default=0)
        if longest < 2:
            break
        index = sizes.index(longest)
        trials[index : index + 1] = halve(trials[index])
        divisible[index : index + 1] = [True, True]
    return trials


def halve(work: Work) -> list[Work]:
    """Return two works with half of the seeds each. With an odd number the second has one more."""
    middle = len(work.seeds) // 2
    halves = (work.seeds[:middle], work.seeds[middle:])
    return [Work(work.configuration, seeds, work.may_stop) for seeds in halves]


def _list_resumable_seeds(work: Work, history: RunHistory) -> list[tuple[int, ...]]:
    """Return the seeds of each interrupted run of a configuration that can be resumed.

    Runs come newest first. A run is skipped if one of its seeds is finished, is no longer
    requested, or belongs to a newer run in the list.
    """
    resumable, seeds_left = list[tuple[int, ...]](), set(work.seeds)
    for run in reversed(history.runs):
        is_interrupted = run.config_key == work.configuration.key and run.state is State.INTERRUPTED
        if is_interrupted and seeds_left.issuperset(run.seeds):
            resumable.append(run.seeds)
            seeds_left -= set(run.seeds)
    return resumable
