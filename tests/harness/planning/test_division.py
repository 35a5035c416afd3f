"""The seeds of a configuration are divided among trials."""

from collections.abc import Sequence
from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from harness.planning import Fingerprints, divide_work
from harness.planning.plan import make_plan
from harness.store import State
from harness.store.history import RunHistory
from tests.harness.fakes import make_study
from tests.harness.planning.builders import build_record, list_configurations

SeedGroups = list[tuple[int, ...]]


def divide_seeds(
    study: StudyConfig,
    prints: Fingerprints,
    slots: int,
    interrupted: Sequence[tuple[int, ...]] = (),
) -> SeedGroups:
    """Return the seeds of each trial of a study.

    Args:
        study: The study.
        prints: Fingerprints of its data and weights.
        slots: Number of trials that can run concurrently.
        interrupted: Seeds of interrupted runs of the first configuration, the oldest run first.
    """
    first = list_configurations(study, prints)[0]
    runs = tuple(build_record(first, seeds, state=State.INTERRUPTED) for seeds in interrupted)
    history = RunHistory(runs)
    work = make_plan(study, history, prints).work
    trials = divide_work(study, work, history, slots)
    # trials are in the order of the plan
    planned = [row.configuration for row in work]
    order = [planned.index(trial.configuration) for trial in trials]
    assert order == sorted(order)
    return [trial.seeds for trial in trials]


ONE_LEVEL = {"generator.n_ctx": [4]}
TWO_LEVELS = {"generator.n_ctx": [4, 8]}


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        (1, [(0, 1, 2, 3, 4), (0, 1, 2, 3, 4)]),
        (2, [(0, 1, 2, 3, 4), (0, 1, 2, 3, 4)]),
        (3, [(0, 1), (2, 3, 4), (0, 1, 2, 3, 4)]),
        (4, [(0, 1), (2, 3, 4), (0, 1), (2, 3, 4)]),
        (99, [(0,), (1,), (2,), (3,), (4,)] * 2),
    ],
)
def test_the_largest_trials_are_halved_until_no_slot_is_free(
    prints: Fingerprints, slots: int, expected: SeedGroups
) -> None:
    """A trial of one seed is not divided."""
    assert divide_seeds(make_study(space=TWO_LEVELS, seeds=5), prints, slots) == expected


@pytest.mark.parametrize(
    ("interrupted", "slots", "expected"),
    [
        # the newest run is resumed, though an older one trained more seeds
        ([(0, 1, 2, 3, 4), (0, 1)], 1, [(0, 1), (2, 3, 4)]),
        ([(0, 1), (2, 3, 4)], 1, [(2, 3, 4), (0, 1)]),
        # the study requests two more seeds than the interrupted run had
        ([(0, 1, 2)], 1, [(0, 1, 2), (3, 4)]),
        # a run with a seed that is not requested any more cannot be resumed
        ([(4, 5)], 1, [(0, 1, 2, 3, 4)]),
        # other seeds are divided, those of an interrupted run are not
        ([(0, 1, 2)], 3, [(0, 1, 2), (3,), (4,)]),
    ],
)
def test_interrupted_trials_keep_their_seeds(
    prints: Fingerprints, interrupted: SeedGroups, slots: int, expected: SeedGroups
) -> None:
    """The names of their checkpoints contain these seeds."""
    study = make_study(space=ONE_LEVEL, seeds=5)
    assert divide_seeds(study, prints, slots, interrupted) == expected


@pytest.mark.parametrize("interrupted", [[], [(0, 1)]])
def test_trials_that_the_scheduler_may_stop_are_not_divided(
    prints: Fingerprints, interrupted: SeedGroups
) -> None:
    """The scheduler would otherwise compare means over different seeds."""
    keys: dict[str, Any] = {"scheduler": {"name": "asha"}}
    study = make_study(space=ONE_LEVEL, seeds=5, **keys)
    assert divide_seeds(study, prints, 5, interrupted) == [(0, 1, 2, 3, 4)]


def test_only_missing_seeds_are_divided(prints: Fingerprints) -> None:
    """Finished seeds are in no trial."""
    study = make_study(space=ONE_LEVEL, seeds=5)
    (first,) = list_configurations(study, prints)
    history = RunHistory((build_record(first, (0, 4)),))
    work = make_plan(study, history, prints).work
    assert [trial.seeds for trial in divide_work(study, work, history, 2)] == [(1,), (2, 3)]
