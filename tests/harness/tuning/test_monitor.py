"""Tune's callback against trials of the test's own: when it gives up on workers that die."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from harness.errors import ClusterError
from harness.planning.fingerprints import Fingerprints
from harness.ray import Deaths
from harness.tuning.endings import Ending
from harness.tuning.monitor import Monitor
from reports.contract import State
from tests.harness.fakes import make_study
from tests.harness.tuning.searchers import KL, works


@pytest.mark.parametrize("places", [1, 2, 8])
def test_as_many_workers_may_die_at_their_start_as_start_at_once(
    prints: Fingerprints, places: int
) -> None:
    """Each of them twice: a node that cannot start any must not end a study that others can run."""
    study = make_study(space=KL)
    (work, *_) = works(study, prints)
    searcher: Any = SimpleNamespace(
        work=lambda trial_id: work,
        ending=lambda trial_id: Ending(State.INTERRUPTED, reason="its worker process died"),
        deaths=Deaths(frozenset),
        at_once=lambda: places,
    )
    monitor = Monitor(searcher, Mock(), Mock(), study, lambda: None)
    most = 2 * max(2, places)
    for number in range(most):
        monitor.on_step_begin(number, [])
        monitor.on_trial_error(number, [], SimpleNamespace(trial_id=str(number), error_file=None))
    with pytest.raises(ClusterError, match="no worker can start"):
        monitor.on_step_begin(most, [])
