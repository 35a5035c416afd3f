"""Seeds of a configuration are divided among trials."""

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

Parts = list[tuple[int, ...]]


def seeds_of_trials(
    study: StudyConfig,
    prints: Fingerprints,
    slots: int,
    interrupted: Sequence[tuple[int, ...]] = (),
) -> Parts:
    """Return the seeds of each trial of a study whose first configuration was interrupted."""
    first = list_configurations(study, prints)[0]
    runs = tuple(build_record(first, seeds, state=State.INTERRUPTED) for seeds in interrupted)
    history = RunHistory(runs)
    work = make_plan(study, history, prints).work
    trials = divide_work(study, work, history, slots)
    assert [trial.configuration for trial in trials] == sorted(
        (trial.configuration for trial in trials), key=[row.configuration for row in work].index
    )
    return [trial.seeds for trial in trials]


ONE = {"generator.n_ctx": [4]}
TWO = {"generator.n_ctx": [4, 8]}


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
def test_largest_trials_are_halved_until_no_slot_is_free(
    prints: Fingerprints, slots: int, expected: Parts
) -> None:
    """A trial of one seed is not divided."""
    assert seeds_of_trials(make_study(space=TWO, seeds=5), prints, slots) == expected


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
    prints: Fingerprints, interrupted: Parts, slots: int, expected: Parts
) -> None:
    """Their checkpoints have the names of these seeds."""
    study = make_study(space=ONE, seeds=5)
    assert seeds_of_trials(study, prints, slots, interrupted) == expected


@pytest.mark.parametrize("interrupted", [[], [(0, 1)]])
def test_trials_that_the_scheduler_may_stop_are_not_divided(
    prints: Fingerprints, interrupted: Parts
) -> None:
    """It would compare means over different seeds."""
    keys: dict[str, Any] = {"scheduler": {"name": "asha"}}
    study = make_study(space=ONE, seeds=5, **keys)
    assert seeds_of_trials(study, prints, 5, interrupted) == [(0, 1, 2, 3, 4)]


def test_finished_seeds_are_left_out(prints: Fingerprints) -> None:
    """Only missing seeds are divided."""
    study = make_study(space=ONE, seeds=5)
    (first,) = list_configurations(study, prints)
    history = RunHistory((build_record(first, (0, 4)),))
    work = make_plan(study, history, prints).work
    assert [trial.seeds for trial in divide_work(study, work, history, 2)] == [(1,), (2, 3)]
