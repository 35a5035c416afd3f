"""Divide the seeds of a plan's work among trials.

By default a configuration is one trial with all of its missing seeds, because seeds that are
trained together share the cost of each step. Seeds are divided among several trials

- to resume interrupted runs: a checkpoint can only be resumed with the seeds of its run;
- to use free slots, if there are more slots than trials.

A trial that the scheduler may stop is not divided, because the scheduler has to stop all seeds of a
configuration or none.
"""

from collections.abc import Sequence

from harness.config import StudyConfig
from harness.planning.plan import Work, prunes_trials
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
        The trials, in the order of `works`. Together they cover the same configurations and seeds.

    Example:
        >>> work = Work(configuration, seeds=(0, 1, 2, 3, 4))  # doctest: +SKIP
        >>> trials = divide_work(study, [work], RunHistory(), slots=2)  # doctest: +SKIP
        >>> [trial.seeds for trial in trials]  # doctest: +SKIP
        [(0, 1), (2, 3, 4)]
    """
    trials, divisible = list[Work](), list[bool]()
    for work in works:
        may_divide = not (work.may_stop and prunes_trials(study))
        resumable = _find_resumable_seeds(work, history) if may_divide else []
        resumed_seeds = {seed for seeds in resumable for seed in seeds}
        new_seeds = tuple(seed for seed in work.seeds if seed not in resumed_seeds)
        seeds_by_trial = [*resumable, new_seeds] if new_seeds else resumable
        trials += [Work(work.configuration, seeds, work.may_stop) for seeds in seeds_by_trial]
        divisible += [may_divide and seeds not in resumable for seeds in seeds_by_trial]
    while len(trials) < slots:
        sizes = [
            len(trial.seeds) if may_divide else 0
            for trial, may_divide in zip(trials, divisible, strict=True)
        ]
        largest = max(sizes, default=0)
        if largest < 2:
            break
        index = sizes.index(largest)
        trials[index : index + 1] = halve(trials[index])
        divisible[index : index + 1] = [True, True]
    return trials


def halve(work: Work) -> list[Work]:
    """Return two works with half of the seeds each. If their number is odd, the second has more."""
    middle = len(work.seeds) // 2
    halves = (work.seeds[:middle], work.seeds[middle:])
    return [Work(work.configuration, seeds, work.may_stop) for seeds in halves]


def _find_resumable_seeds(work: Work, history: RunHistory) -> list[tuple[int, ...]]:
    """Return the seeds of each interrupted run that a trial can resume, newest run first.

    A run is skipped if any of its seeds is finished or no longer requested, or is in the result
    already, as a seed of a newer run.
    """
    seeds_by_run, left = list[tuple[int, ...]](), set(work.seeds)
    for run in reversed(history.runs):
        is_interrupted = run.config_key == work.configuration.key and run.state is State.INTERRUPTED
        if is_interrupted and left.issuperset(run.seeds):
            seeds_by_run.append(run.seeds)
            left -= set(run.seeds)
    return seeds_by_run
