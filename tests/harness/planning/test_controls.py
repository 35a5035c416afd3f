"""Studies with a sampler run controls at the levels of their best configuration."""

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


def make_sampled_study(**keys: Any) -> StudyConfig:
    """Return a study of a factor that affects some controls and a factor that does not."""
    space = {SHOTS: {"choices": [2, 4, 8], "baseline": 2}, N_CTX: [1, 4]}
    mapping = {"space": space, "sampler": "random", "n_trials": 2, "controls": True}
    return make_study(**{**mapping, **keys})


def make_trial_record(
    study: StudyConfig, prints: Fingerprints, shots: int, score: float, **keys: Any
) -> RunRecord:
    """Return the record of a finished trial with this selection score under each seed."""
    configuration = ConfigurationMaker(study, prints)({SHOTS: shots, N_CTX: 1})
    return build_record(configuration, SEEDS, **{"objective": dict.fromkeys(SEEDS, score), **keys})


def list_other_controls(plan: Plan) -> dict[str, str]:
    """Return the states of the controls that are not at the baseline."""
    rows = [row for row in plan.rows if row.configuration.control and row.configuration.assignment]
    return {row.label: row.state for row in rows}


def test_the_best_configuration_has_its_controls_once_the_sampler_has_ended(
    prints: Fingerprints,
) -> None:
    """They wait for the last proposal and for every configuration that is still to run."""
    study = make_sampled_study()
    first, best = (
        make_trial_record(study, prints, 2, 50.0),
        make_trial_record(study, prints, 4, 60.0),
    )
    failed = make_trial_record(
        study, prints, 8, 0.0, state=State.FAIL, failure=Failure.ERROR, reason="why", objective={}
    )
    assert list_other_controls(make_plan(study, RunHistory((best,)), prints)) == {}
    assert list_other_controls(make_plan(study, RunHistory((best, failed)), prints)) == {}
    plan = make_plan(study, RunHistory((first, best)), prints)
    assert list_other_controls(plan) == dict.fromkeys(CONTROLS, "to run")
    assert not plan.n_proposals and not plan.finished


def test_a_best_configuration_at_the_baseline_needs_no_other_controls(
    prints: Fingerprints,
) -> None:
    """This depends only on the factors that affect controls."""
    study = make_sampled_study()
    history = RunHistory(
        (make_trial_record(study, prints, 2, 60.0), make_trial_record(study, prints, 4, 50.0))
    )
    assert list_other_controls(make_plan(study, history, prints)) == {}


def test_a_former_best_configuration_keeps_its_finished_controls(prints: Fingerprints) -> None:
    """A better trial gets controls, too, and no finished run is removed from the table."""
    study = make_sampled_study(n_trials=3)
    runs = [make_trial_record(study, prints, shots, 50.0 + shots) for shots in (2, 4)]
    before = make_plan(make_sampled_study(), RunHistory(tuple(runs)), prints)
    runs += [build_record(row.configuration, SEEDS) for row in before.rows if row.label in CONTROLS]
    after = make_plan(study, RunHistory((*runs, make_trial_record(study, prints, 8, 70.0))), prints)
    assert list_other_controls(after) == {
        **dict.fromkeys(CONTROLS, "done"),
        **{name.replace("4", "8"): "to run" for name in CONTROLS},
    }


def test_a_control_in_the_space_is_a_configuration_of_the_study(prints: Fingerprints) -> None:
    """It runs once, and the sampler does not propose it."""
    space = {"generator": {"choices": ["vae", "none"], "baseline": "vae"}, SHOTS: [2, 4]}
    study = make_sampled_study(space=space)
    maker = ConfigurationMaker(study, prints)
    no_synthetic = build_record(
        maker.controls()[1],
        SEEDS,
        control="",
        assignment={"generator": "none", SHOTS: 2},
        objective=dict.fromkeys(SEEDS, 40.0),
    )
    best = build_record(maker({"generator": "vae", SHOTS: 4}), SEEDS)
    plan = make_plan(study, RunHistory((no_synthetic, best)), prints)
    assert list_other_controls(plan) == {"text_feature (shots=4)": "to run"}
    (row,) = [row for row in plan.rows if row.label == "generator=none, shots=4"]
    assert row.state == "to run"
    assert row.configuration.key in {control.key for control in plan.duplicate_controls}
    assert plan.n_proposals == 0
