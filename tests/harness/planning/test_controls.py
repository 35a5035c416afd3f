"""Controls of a sampled study run at the levels of its best configuration."""

from dataclasses import replace
from typing import Any

from harness.config.study_config import StudyConfig
from harness.planning.configurations import ConfigurationMaker
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan, make_plan
from harness.store import Failure, State
from harness.store.history import RunHistory, RunRecord
from tests.harness.fakes import make_study
from tests.harness.planning.builders import build_record

SHOTS, N_CTX = "shots", "generator.n_ctx"
SEEDS = (0, 1)
CONTROLS = [f"{name} (shots=4)" for name in ("no_synthetic", "text_feature")]


def sampled(**keys: Any) -> StudyConfig:
    """Return a study over a factor that controls read, and one that they do not."""
    space = {SHOTS: {"choices": [2, 4, 8], "baseline": 2}, N_CTX: [1, 4]}
    mapping = {"space": space, "sampler": "random", "n_trials": 2, "controls": True}
    return make_study(**{**mapping, **keys})


def tried(
    study: StudyConfig, prints: Fingerprints, shots: int, score: float, **keys: Any
) -> RunRecord:
    """Return a finished run of a configuration with its selection score."""
    configuration = ConfigurationMaker(study, prints)({SHOTS: shots, N_CTX: 1})
    return build_record(configuration, SEEDS, **{"objective": dict.fromkeys(SEEDS, score), **keys})


def at_other_levels(plan: Plan) -> dict[str, str]:
    """Return the controls at other levels than the baseline's with their states."""
    rows = [row for row in plan.rows if row.configuration.control and row.configuration.assignment]
    return {row.label: row.state for row in rows}


def test_the_best_configuration_has_its_controls_once_the_sampler_has_ended(
    prints: Fingerprints,
) -> None:
    """They wait for the last proposal and for every configuration that is still to run."""
    study = sampled()
    first, best = tried(study, prints, 2, 50.0), tried(study, prints, 4, 60.0)
    failed = tried(
        study, prints, 8, 0.0, state=State.FAIL, failure=Failure.ERROR, reason="why", objective={}
    )
    assert at_other_levels(make_plan(study, RunHistory((best,)), prints)) == {}
    assert at_other_levels(make_plan(study, RunHistory((best, failed)), prints)) == {}
    ended = make_plan(study, RunHistory((first, best)), prints)
    assert at_other_levels(ended) == dict.fromkeys(CONTROLS, "to run")
    assert not ended.n_proposals and not ended.finished


def test_a_best_configuration_at_the_baseline_needs_no_other_control(
    prints: Fingerprints,
) -> None:
    """If all factors that a control reads are at the baseline, it is the baseline's control."""
    study = sampled()
    history = RunHistory((tried(study, prints, 2, 60.0), tried(study, prints, 4, 50.0)))
    assert at_other_levels(make_plan(study, history, prints)) == {}


def test_a_former_best_configuration_keeps_its_finished_controls(prints: Fingerprints) -> None:
    """A further, better trial gets controls, and no finished run leaves the table."""
    study = sampled(n_trials=3)
    runs = [tried(study, prints, shots, 50.0 + shots) for shots in (2, 4)]
    before = make_plan(sampled(), RunHistory(tuple(runs)), prints)
    runs += [build_record(row.configuration, SEEDS) for row in before.rows if row.label in CONTROLS]
    now = make_plan(study, RunHistory((*runs, tried(study, prints, 8, 70.0))), prints)
    assert at_other_levels(now) == {
        **dict.fromkeys(CONTROLS, "done"),
        **{name.replace("4", "8"): "to run" for name in CONTROLS},
    }


def test_a_control_that_is_a_configuration_is_one_of_the_study(prints: Fingerprints) -> None:
    """A sampler that may draw it does not propose it again, as at the baseline."""
    space = {"generator": {"choices": ["vae", "none"], "baseline": "vae"}, SHOTS: [2, 4]}
    study = sampled(space=space)
    maker = ConfigurationMaker(study, prints)
    alone = build_record(
        maker.controls()[1], SEEDS, control="", objective=dict.fromkeys(SEEDS, 40.0)
    )
    alone = replace(alone, assignment={"generator": "none", SHOTS: 2})
    best = build_record(maker({"generator": "vae", SHOTS: 4}), SEEDS)
    plan = make_plan(study, RunHistory((alone, best)), prints)
    assert at_other_levels(plan) == {"text_feature (shots=4)": "to run"}
    (planned_row,) = [row for row in plan.rows if row.label == "generator=none, shots=4"]
    assert planned_row.state == "to run" and planned_row.configuration.key in {
        control.key for control in plan.duplicate_controls
    }
    assert plan.n_proposals == 0
