"""Settings that --path adds to a study: wanted while asked for, kept once they have run."""

from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan, make_plan
from harness.planning.settings import Setting, SettingMaker
from harness.store.ledger import Ledger
from reports.contract import Failure, State
from tests.harness.fakes import make_study
from tests.harness.planning.made import run_of, settings_of

KL = "generator.kl_weight"
N_CTX = "generator.n_ctx"
CUT = {N_CTX: {"choices": [8, 4], "baseline": 4}, KL: {"choices": [0.01, 1.0], "baseline": 1.0}}
BETWEEN = {N_CTX: 4, KL: 0.01}


def cut(**keys: Any) -> StudyConfig:
    """A grid of four settings, of which the first alone is asked for."""
    return make_study(**{"space": CUT, "trials": 1, **keys})


def asking(study: StudyConfig, *assignments: dict[str, Any]) -> StudyConfig:
    """The study while --path asks for some assignments."""
    return study.model_copy(update={"added": assignments})


def added(study: StudyConfig, prints: Fingerprints, assignment: dict[str, Any]) -> Setting:
    """The setting of an assignment."""
    return SettingMaker(study, prints)(assignment)


def labels(plan: Plan) -> list[str]:
    """The settings of a plan, those marked that are for the path."""
    return [f"{setting.label}{' +' if setting.added else ''}" for setting in plan.settings]


def test_what_is_asked_for_runs_beside_the_grid(prints: Fingerprints) -> None:
    """Under all seeds; the dry run says what it is for."""
    study = asking(cut(), BETWEEN)
    (own,) = settings_of(cut(), prints)
    plan = make_plan(study, Ledger((run_of(own, (0, 1)),)), prints)
    assert labels(plan) == ["n_ctx=8, kl_weight=0.01", "n_ctx=4, kl_weight=0.01 +"]
    (work,) = plan.work
    assert (work.setting.assignment, work.seeds, work.judged) == (BETWEEN, (0, 1), False)
    assert plan.rows[1].label == "n_ctx=4, kl_weight=0.01 (for the path)"


@pytest.mark.parametrize(
    ("state", "kept"),
    [(State.COMPLETE, True), (State.INTERRUPTED, False), (State.FAIL, False)],
)
def test_what_has_results_stays_unasked(prints: Fingerprints, state: State, kept: bool) -> None:
    """Another time without --path: finished settings stay, others are no part of the study."""
    study = cut()
    (own,) = settings_of(study, prints)
    keys = {"failure": Failure.NON_FINITE} if state is State.FAIL else {}
    one = run_of(added(study, prints, BETWEEN), (0, 1), state=state, added=True, **keys)
    plan = make_plan(study, Ledger((run_of(own, (0, 1)), one)), prints)
    assert len(plan.settings) == 1 + kept and plan.finished
    assert plan.rows[-1].state == "done"


def test_more_seeds_are_more_seeds_of_all(prints: Fingerprints) -> None:
    """A path is compared under the study's seeds."""
    study = cut(seeds=3)
    one = run_of(added(study, prints, BETWEEN), (0, 1), added=True)
    plan = make_plan(study, Ledger((one,)), prints)
    assert [work.seeds for work in plan.work] == [(0, 1, 2), (2,)]


def test_a_grid_that_grows_takes_its_own_back(prints: Fingerprints) -> None:
    """What the grid asks for is the grid's, whoever had it run first; nothing runs twice."""
    study = cut(trials=None)
    one = run_of(added(study, prints, BETWEEN), (0, 1), added=True)
    plan = make_plan(study, Ledger((one,)), prints)
    assert len(plan.settings) == 4 and not any(setting.added for setting in plan.settings)
    assert len(plan.work) == 3


@pytest.mark.parametrize(
    "space",
    [
        {N_CTX: [8], KL: CUT[KL]},
        {**CUT, N_CTX: {"choices": [8, 4], "when": {KL: 1.0}}},
    ],
)
def test_what_the_space_has_no_more_leaves(prints: Fingerprints, space: dict[str, Any]) -> None:
    """A level that was removed, or a factor that is not active there."""
    one = run_of(added(cut(), prints, BETWEEN), (0, 1), added=True)
    plan = make_plan(cut(space=space), Ledger((one,)), prints)
    assert not any(setting.added for setting in plan.settings)


def test_a_changed_constant_makes_other_settings(prints: Fingerprints) -> None:
    """Those of before are no part of the study; nothing says that the new ones are on a path."""
    one = run_of(added(cut(shots=4), prints, BETWEEN), (0, 1), added=True)
    assert len(make_plan(cut(), Ledger((one,)), prints).settings) == 1


def test_a_younger_factor_stands_at_its_baseline(prints: Fingerprints) -> None:
    """As in the settings of a grid."""
    one = run_of(added(cut(shots=2), prints, BETWEEN), (0, 1), added=True)
    space = {**CUT, "shots": {"choices": [4, 2], "baseline": 2}}
    plan = make_plan(cut(space=space), Ledger((one,)), prints)
    assert plan.settings[-1].added and plan.settings[-1].assignment == {**BETWEEN, "shots": 2}


def test_they_are_no_trials_of_a_sampler(prints: Fingerprints) -> None:
    """It still proposes as many as it is asked for, and knows what is there already."""
    space = {N_CTX: {"low": 1, "high": 3}, KL: [0.01, 1.0]}
    study = make_study(space=space, sampler="random", trials=4)
    runs = [
        run_of(added(study, prints, {N_CTX: 1, KL: 0.01}), (0, 1)),
        run_of(added(study, prints, {N_CTX: 2, KL: 0.01}), (0, 1), added=True),
    ]
    plan = make_plan(study, Ledger(tuple(runs)), prints)
    assert labels(plan) == ["n_ctx=1, kl_weight=0.01", "n_ctx=2, kl_weight=0.01 +"]
    assert plan.proposals == 3
    whole = make_plan(make_study(space=space, sampler="random", trials=9), Ledger(()), prints)
    left = make_plan(
        make_study(space=space, sampler="random", trials=9), Ledger(tuple(runs)), prints
    )
    assert (whole.proposals, left.proposals) == (6, 4)


def test_what_the_scheduler_stopped_is_run_to_its_end(prints: Fingerprints) -> None:
    """And counts as added from then on, though the sampler had proposed it."""
    study = cut(trials=None, scheduler="asha")
    one = added(study, prints, BETWEEN)
    others = [run_of(s, (0, 1)) for s in settings_of(study, prints) if s.key != one.key]
    stopped = run_of(one, (0, 1), state=State.PRUNED, objective={})
    before = Ledger((*others, stopped))
    assert make_plan(study, before, prints).finished
    (work,) = make_plan(asking(study, BETWEEN), before, prints).work
    assert (work.setting.added, work.seeds, work.judged) == (True, (0, 1), False)
    after = Ledger((*before.runs, run_of(one, (0, 1), added=True)))
    plan = make_plan(study, after, prints)
    assert plan.finished and [s.key for s in plan.settings if s.added] == [one.key]


def test_a_setting_of_the_grid_that_is_asked_for_stays_the_grids(prints: Fingerprints) -> None:
    """A grid's own setting that failed is not run anew for the path, nor marked."""
    study = cut(trials=None)
    keys = {"state": State.FAIL, "failure": Failure.NON_FINITE, "objective": {}}
    runs = [
        run_of(s, (0, 1), **(keys if s.assignment == BETWEEN else {}))
        for s in settings_of(study, prints)
    ]
    plan = make_plan(asking(study, BETWEEN), Ledger(tuple(runs)), prints)
    assert plan.finished and not any(setting.added for setting in plan.settings)
