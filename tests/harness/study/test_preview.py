"""What `--dry-run` says of time by what stands in the store, and that it measures nothing then."""

from dataclasses import replace
from typing import Any

from harness.config.study_config import StudyConfig
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.harness.planning.made import settings_of


def refused(*_: Any) -> Any:
    """A step that must not be run."""
    raise AssertionError("something was measured")


def write_runs(bench: Bench, study: StudyConfig, *, seconds: float) -> None:
    """A complete run of two seeds for each of the study's settings, under the study's name."""
    store = bench.store()
    experiment = store.create_experiment(study.name)
    for setting in settings_of(study, Fingerprints(bench.method, None, bench.cache)):
        tags = {"ship.kind": "trial", "ship.state": "COMPLETE", "ship.seeds": "[0, 1]"}
        tags |= {"ship.setting_key": setting.key, "ship.device": "cpu (x86_64)"}
        run = store.client.create_run(experiment, tags=tags).info.run_id
        store.client.log_metric(run, "cost/seconds", seconds)


def planned(bench: Bench, study: StudyConfig) -> tuple[Plan, list[str]]:
    """A plan, and what was said on the way; steps and features that are measured raise."""
    said: list[str] = []
    method = replace(bench.method, timed=True, run_trial=refused, extraction_seconds=refused)
    return bench.plan(study, method=method, say=said.append), said


def test_the_same_settings_of_another_study_tell_the_time(bench: Bench) -> None:
    """Seconds a seed go with the setting, under whatever name it was run."""
    write_runs(bench, make_study(name="before"), seconds=8.0)
    plan, said = planned(bench, make_study(name="after", seeds=3))
    assert plan.estimate is not None and not said
    assert list(plan.estimate.seconds.values()) == [12.0] * 3
    assert plan.estimate.source == "3 finished trials"


def test_nothing_is_measured_where_nothing_is_to_run(bench: Bench) -> None:
    """Nor where a change asks for settings that have not run: those that have tell the time."""
    write_runs(bench, make_study(), seconds=8.0)
    plan, said = planned(bench, make_study())
    assert plan.finished and plan.estimate is None and not said
    plan, said = planned(bench, make_study(shots=4))
    assert len(plan.work) == 3 and plan.estimate is not None and not said
    assert plan.estimate.compute == 3 * 8.0
