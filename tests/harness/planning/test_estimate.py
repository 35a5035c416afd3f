"""The time estimate of `--dry-run`, which is based on the seconds per seed of finished trials."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from harness.planning import estimate as estimate_module
from harness.planning.estimate import estimate_time
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import RAY_START_SECONDS, SECONDS_BETWEEN_TRIALS, TimeEstimate, make_plan
from harness.store import State
from harness.store.history import RunHistory, RunRecord
from tests.case_files import load_cases
from tests.harness.fakes import make_method, make_study
from tests.harness.planning.builders import build_record, list_configurations

CPU = "cpu (x86_64)"


@pytest.fixture
def prints(tmp_path: Path) -> Fingerprints:
    """Return fingerprints of the analytic method."""
    return Fingerprints(make_method(tmp_path / "log"), None, tmp_path / "cache")


def estimate_remaining_time(
    study: StudyConfig, prints: Fingerprints, *runs: RunRecord
) -> TimeEstimate | None:
    """Estimate the time of the configurations and seeds that these runs have not finished."""
    return estimate_time(study, make_plan(study, RunHistory(runs), prints), runs)


def make_finished_run(
    study: StudyConfig, prints: Fingerprints, seconds: float, **keys: Any
) -> RunRecord:
    """Return a finished run of the study's first configuration with two seeds."""
    first = list_configurations(study, prints)[0]
    return build_record(first, (0, 1), **{"seconds": seconds, "device": CPU, **keys})


def test_finished_trials_determine_the_time(prints: Fingerprints) -> None:
    """The seconds per seed are the configuration's mean, or the mean of all if it has no run."""
    study = make_study(seeds=3)
    configurations = list_configurations(study, prints)
    estimate = estimate_remaining_time(
        study,
        prints,
        make_finished_run(study, prints, 6.0),
        build_record(configurations[1], (0,), seconds=9.0, device=CPU),
        make_finished_run(study, prints, 0.1, control="zero_shot", config_key="control"),
        make_finished_run(study, prints, 900.0, device="NVIDIA H100"),
    )
    assert estimate is not None
    first, second, third = (configuration.key for configuration in configurations)
    assert estimate.seconds == {first: 3.0, second: 18.0, third: pytest.approx(3 * 5.0)}
    assert estimate.n_finished_trials == 3


def test_seeds_are_divided_as_in_the_study(
    prints: Fingerprints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seeds of an interrupted run are one trial, because its checkpoint is resumed."""
    monkeypatch.setattr(estimate_module, "count_slots", lambda *_: 1)
    study = make_study(space={"generator.n_ctx": [1, 2]}, seeds=3)
    first, second = list_configurations(study, prints)
    interrupted = replace(build_record(second, (0, 1)), state=State.INTERRUPTED)
    complete = build_record(first, (0, 1, 2), seconds=6.0, device=CPU)
    result = estimate_remaining_time(study, prints, complete, interrupted)
    assert result is not None and result.trials == (4.0, 2.0)


def test_the_time_of_a_control_is_not_used_for_configurations(prints: Fingerprints) -> None:
    """This includes a control that ran as a level in another study."""
    study = make_study(controls=True)
    configurations = list_configurations(study, prints)
    control = next(row for row in configurations if row.control)
    control_run = build_record(control, (0,), seconds=0.1, device=CPU, control="")
    assert estimate_remaining_time(study, prints, control_run) is None
    level = next(row for row in configurations if not row.control)
    level_run = build_record(level, (0,), seconds=4.0, device=CPU)
    estimate = estimate_remaining_time(study, prints, control_run, level_run)
    assert estimate is not None
    assert (estimate.seconds[control.key], estimate.seconds[level.key]) == (0.1, 4.0)


@pytest.mark.parametrize("keys", [{"device": "NVIDIA H100"}, {"control": "zero_shot"}])
def test_without_comparable_trials_the_time_is_unknown(
    prints: Fingerprints, keys: dict[str, Any]
) -> None:
    """Trials on another device and trials of controls are not comparable."""
    study = make_study()
    assert estimate_remaining_time(study, prints) is None
    run = make_finished_run(study, prints, 6.0, **{"config_key": "of another study", **keys})
    assert estimate_remaining_time(study, prints, run) is None


SCHEDULES = load_cases(__file__, "schedules.yaml")


@pytest.mark.parametrize("case", SCHEDULES["wall"], ids=str)
def test_wall_time_is_that_of_a_schedule(case: dict[str, Any]) -> None:
    """Each trial starts on the first idle worker."""
    trials, proposals = tuple(case["trials"]), tuple(case.get("proposals", ()))
    estimate = TimeEstimate({}, trials, proposals, case["n_workers"], n_finished_trials=0)
    assert estimate.wall == pytest.approx(
        RAY_START_SECONDS + case["wall"] + case["between"] * SECONDS_BETWEEN_TRIALS
    )
