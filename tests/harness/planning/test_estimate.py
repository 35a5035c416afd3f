"""The estimate of `--dry-run`: by the seconds per seed of finished trials."""

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
    """Fingerprints of the analytic method."""
    return Fingerprints(make_method(tmp_path / "log"), None, tmp_path / "cache")


def estimate_of(study: StudyConfig, prints: Fingerprints, *runs: RunRecord) -> TimeEstimate | None:
    """The estimate of what is left of a study with some runs."""
    return estimate_time(study, make_plan(study, RunHistory(runs), prints), runs)


def finished(study: StudyConfig, prints: Fingerprints, seconds: float, **keys: Any) -> RunRecord:
    """A run of the study's first setting, n_ctx 1, both seeds."""
    first = list_configurations(study, prints)[0]
    return build_record(first, (0, 1), **{"seconds": seconds, "device": CPU, **keys})


def test_finished_trials_determine_the_time(prints: Fingerprints) -> None:
    """A configuration has its own mean seconds per seed if it has any, else the mean of all."""
    study = make_study(seeds=3)
    configurations = list_configurations(study, prints)
    estimate = estimate_of(
        study,
        prints,
        finished(study, prints, 6.0),
        build_record(configurations[1], (0,), seconds=9.0, device=CPU),
        finished(study, prints, 0.1, control="zero_shot", config_key="control"),
        finished(study, prints, 900.0, device="NVIDIA H100"),
    )
    assert estimate is not None
    first, second, third = (configuration.key for configuration in configurations)
    assert estimate.seconds == {first: 3.0, second: 18.0, third: pytest.approx(3 * 5.0)}
    assert estimate.n_finished_trials == 3


def test_seeds_are_divided_as_in_the_study(
    prints: Fingerprints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seeds of an interrupted run are one trial, as its checkpoint is resumed."""
    monkeypatch.setattr(estimate_module, "count_slots", lambda *_: 1)
    study = make_study(space={"generator.n_ctx": [1, 2]}, seeds=3)
    first, second = list_configurations(study, prints)
    interrupted = replace(build_record(second, (0, 1)), state=State.INTERRUPTED)
    done = build_record(first, (0, 1, 2), seconds=6.0, device=CPU)
    result = estimate_of(study, prints, done, interrupted)
    assert result is not None and result.trials == (4.0, 2.0)


def test_a_control_has_its_own_time_and_does_not_count_for_others(prints: Fingerprints) -> None:
    """This includes a control that ran as a level in another study."""
    study = make_study(controls=True)
    control = next(
        configuration
        for configuration in list_configurations(study, prints)
        if configuration.control
    )
    ended = build_record(control, (0,), seconds=0.1, device=CPU, control="")
    assert estimate_of(study, prints, ended) is None
    level = next(
        configuration
        for configuration in list_configurations(study, prints)
        if not configuration.control
    )
    estimate = estimate_of(study, prints, ended, build_record(level, (0,), seconds=4.0, device=CPU))
    assert estimate is not None
    assert (estimate.seconds[control.key], estimate.seconds[level.key]) == (0.1, 4.0)


@pytest.mark.parametrize("keys", [{"device": "NVIDIA H100"}, {"control": "zero_shot"}])
def test_without_a_trial_that_counts_the_time_is_unknown(
    prints: Fingerprints, keys: dict[str, Any]
) -> None:
    """Trials on another kind of device do not count, nor do those of controls."""
    study = make_study()
    assert estimate_of(study, prints) is None
    other = {"config_key": "of another study", **keys}
    assert estimate_of(study, prints, finished(study, prints, 6.0, **other)) is None


SCHEDULES = load_cases(__file__, "schedules.yaml")


@pytest.mark.parametrize("case", SCHEDULES["wall"], ids=str)
def test_wall_time_is_that_of_a_schedule(case: dict[str, Any]) -> None:
    """Each trial goes to the first idle worker, and a worker without a trial stays idle."""
    trials, proposals = tuple(case["trials"]), tuple(case.get("proposals", ()))
    estimate = TimeEstimate({}, trials, proposals, case["at_once"], n_finished_trials=0)
    assert estimate.wall == pytest.approx(
        RAY_START_SECONDS + case["wall"] + case["between"] * SECONDS_BETWEEN_TRIALS
    )
