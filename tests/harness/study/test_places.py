"""How many trials of a study are out at once."""

from unittest.mock import MagicMock, Mock

import pytest
from rich.console import Console

from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import make_plan
from harness.study.standing import Standing
from harness.study.trials import Options, Trials
from tests.harness.fakes import make_study
from tests.harness.tuning.searchers import EMPTY, KL


@pytest.mark.parametrize(
    ("owned", "address", "concurrency", "places"),
    [
        (True, None, None, [2, 2]),
        (False, None, None, [3, 5]),  # open already: it may be a cluster's
        (True, "auto", None, [3, 5]),
        (True, "auto", 4, [3, 4]),
    ],
)
def test_a_cluster_gets_one_trial_more_than_it_has_room_for(
    prints: Fingerprints,
    monkeypatch: pytest.MonkeyPatch,
    owned: bool,
    address: str | None,
    concurrency: int | None,
    places: list[int],
) -> None:
    """So that an autoscaler has a reason to add a node, within what the study allows."""
    there = {"CPU": 2.0}
    monkeypatch.setattr("harness.ray.cluster_resources", lambda: there)
    monkeypatch.setattr("harness.tuning.Sweep", Mock())
    searcher = Mock()
    monkeypatch.setattr("harness.tuning.StudySearcher", searcher)
    study, quiet = make_study(space=KL, concurrency=concurrency), Console(quiet=True)
    others = MagicMock()
    plan, options = make_plan(study, EMPTY, prints), Options(quiet, Mock(), address)
    standing = Standing(study, prints, others, "0", EMPTY, None, plan)
    Trials(standing, others, others, options, others)._sweep(plan, {}, owned)
    at_once = searcher.call_args.args[-1]
    found = [at_once()]
    there["CPU"] = 4.0
    assert [*found, at_once()] == places
