"""Settings that --path adds to a study: wanted while asked for, kept once they have run."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

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
    assert ("(for the path)" in plan.rows[-1].label) == kept


EDITS = YAML(typ="safe").load((Path(__file__).parent / "paths.yaml").read_text("utf-8"))


@pytest.mark.parametrize("case", EDITS, ids=str)
def test_what_an_edited_study_keeps_of_a_path(prints: Fingerprints, case: dict[str, Any]) -> None:
    """What has run for the path stays in the study where its space could have it."""
    one = run_of(added(cut(**case.get("was", {})), prints, BETWEEN), (0, 1), added=True)
    plan = make_plan(cut(**case.get("is", {})), Ledger((one,)), prints)
    assert (labels(plan), len(plan.work)) == (case["settings"], case["to_run"])


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
