"""The searcher against a driver of the test's own: no Ray, milliseconds."""

from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from harness.config.study_config import StudyConfig
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Work, make_plan
from harness.planning.settings import SettingMaker, enumerate_settings
from harness.store.ledger import Ledger
from harness.tuning.searcher import StudySearcher
from reports.contract import Failure, State
from tests.harness.fakes import make_study, truth
from tests.harness.planning.made import run_of
from tests.harness.tuning.searchers import optuna_trials

KL = {"generator.kl_weight": {"low": 1e-4, "high": 1.0, "log": True}}


def make_searcher(study: StudyConfig, ledger: Ledger, prints: Fingerprints) -> StudySearcher:
    """The searcher of a run of the study."""
    make = SettingMaker(study, prints)
    plan = make_plan(study, ledger, prints)
    return StudySearcher(study, plan, ledger, make, enumerate_settings(study, make))


def final_of(work: Work) -> dict[str, Any]:
    """A flattened last result of a finished trial, as Tune hands it over."""
    values = [truth(work.setting.config, seed) for seed in work.seeds]
    mean = sum(values) / len(values)
    return {"final": [{"objective": mean, "selection": {"harmonic_mean": values}}]}


def drive(searcher: StudySearcher, most: int = 100) -> list[Work]:
    """Run everything, one trial after the other."""
    done = []
    for number in range(most):
        given = searcher.suggest(f"t{number}")
        if given == Searcher.FINISHED:
            return done
        work = searcher.work(f"t{number}")
        searcher.on_trial_complete(f"t{number}", final_of(work))
        done.append(work)
    raise AssertionError("the searcher does not end")


def test_a_grid_is_given_out_in_order(prints: Fingerprints) -> None:
    """Reference arms first; no Optuna."""
    searcher = make_searcher(make_study(reference_arms=True), Ledger(), prints)
    assert [work.setting.label for work in drive(searcher)] == [
        "zero_shot",
        "no_synthetic",
        "text_feature",
        "real_pictures",
        "n_ctx=1",
        "n_ctx=2",
        "n_ctx=4",
    ]
    assert searcher.sampler is None


def test_concurrency_holds_trials_back(prints: Fingerprints) -> None:
    """None means: ask again later."""
    searcher = make_searcher(make_study(concurrency=2), Ledger(), prints)
    assert isinstance(searcher.suggest("a"), dict)
    assert isinstance(searcher.suggest("b"), dict)
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", final_of(searcher.work("a")))
    assert isinstance(searcher.suggest("c"), dict)
    searcher.on_trial_complete("b", final_of(searcher.work("b")))
    assert searcher.suggest("d") is None  # its worker may die, and it runs again
    searcher.on_trial_complete("c", final_of(searcher.work("c")))
    assert searcher.suggest("d") == Searcher.FINISHED


def test_states_reach_optuna_and_values_only_with_complete(prints: Fingerprints) -> None:
    """Stopped is PRUNED, failed and dead and not finite are FAIL, none of them with a value."""
    study = make_study(space=KL, sampler="tpe", trials=6, concurrency=6, seeds=1)
    searcher = make_searcher(study, Ledger(), prints)
    for name in "abcdef":
        searcher.suggest(name)
    searcher.on_trial_complete("a", final_of(searcher.work("a")))
    searcher.on_trial_complete("b", {"selection_objective": 60.0})
    searcher.on_trial_complete("c", {"failed": [{"failure": "non_finite", "reason": "nan"}]})
    searcher.on_trial_complete("d", error=True)
    searcher.suggest("d again")
    searcher.on_trial_complete("d again", error=True)
    searcher.on_trial_complete("e", None)
    searcher.suggest("e again")
    searcher.on_trial_complete("e again", None)
    nan = float("nan")
    final = {"final": [{"objective": nan, "selection": {"harmonic_mean": [nan]}}]}
    searcher.on_trial_complete("f", final)
    trials = optuna_trials(searcher)
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        *[TrialState.FAIL] * 4,
    ]
    assert [trial.value is None for trial in trials] == [False, *[True] * 5]
    assert searcher.suggest("g") == Searcher.FINISHED


def test_the_ledger_is_told_again_at_the_start(prints: Fingerprints) -> None:
    """COMPLETE with the mean over the study's seeds, PRUNED and FAIL without a value."""
    study = make_study(space=KL, sampler="tpe", trials=9, scheduler="asha", seeds=[0, 1])
    make = SettingMaker(study, prints)
    good, pruned, bad = (make({"generator.kl_weight": value}) for value in (0.1, 0.2, 0.3))
    ledger = Ledger(
        (
            run_of(good, (0, 1, 7)),
            run_of(pruned, (0, 1), state=State.PRUNED, objective={}),
            run_of(bad, (0, 1), state=State.FAIL, failure=Failure.NON_FINITE, objective={}),
        )
    )
    trials = optuna_trials(make_searcher(study, ledger, prints))
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
    ]
    assert trials[0].value == pytest.approx(50.5)
    assert trials[1].value is trials[2].value is None


def test_a_setting_that_lacks_a_seed_for_good_is_told_as_failed(prints: Fingerprints) -> None:
    """From the ledger at the start, and when its other seeds have run: FAIL, without a value."""
    study = make_study(space=KL, sampler="tpe", trials=2, seeds=[0, 1, 2])
    make = SettingMaker(study, prints)
    ended, open_still = (make({"generator.kl_weight": value}) for value in (0.1, 0.2))
    failed = {"state": State.FAIL, "failure": Failure.NON_FINITE, "objective": {}}
    ledger = Ledger(
        (
            run_of(ended, (0, 1)),
            run_of(ended, (2,), **failed),
            run_of(open_still, (0,)),
            run_of(open_still, (1,), **failed),
        )
    )
    searcher = make_searcher(study, ledger, prints)
    (first,) = optuna_trials(searcher)
    assert (first.state, first.value) == (TrialState.FAIL, None)
    (work,) = drive(searcher)
    assert (work.setting.key, work.seeds) == (open_still.key, (2,))
    assert optuna_trials(searcher)[1].state is TrialState.FAIL


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_study_that_goes_on_repeats_nothing(prints: Fingerprints, sampler: str) -> None:
    """The seed depends on how many settings are known; the same start gives the same proposals."""
    study = make_study(space=KL, sampler=sampler, trials=4)
    first = drive(make_searcher(study, Ledger(), prints))
    again = drive(make_searcher(study, Ledger(), prints))
    assert [w.setting.key for w in first] == [w.setting.key for w in again]
    ledger = Ledger(tuple(run_of(work.setting, work.seeds) for work in first))
    more = drive(make_searcher(make_study(space=KL, sampler=sampler, trials=8), ledger, prints))
    assert len(more) == 4
    assert not {w.setting.key for w in first} & {w.setting.key for w in more}


def test_tpe_learns_from_the_ledger(prints: Fingerprints) -> None:
    """After 30 settings the proposals lie nearer to the optimum at 0.01 than random ones do."""
    first = make_study(space=KL, sampler="random", trials=30, seeds=1)
    done = drive(make_searcher(first, Ledger(), prints))
    ledger = Ledger(
        tuple(
            run_of(work.setting, (0,), objective={0: truth(work.setting.config, 0)})
            for work in done
        )
    )
    study = make_study(space=KL, sampler="tpe", trials=50, seeds=1)
    more = drive(make_searcher(study, ledger, prints))
    values = [truth(work.setting.config, 0) for work in more]
    known = [truth(work.setting.config, 0) for work in done]
    assert sum(values) / len(values) > sum(known) / len(known) + 0.5


def test_a_finite_space_is_emptied_without_repeats(prints: Fingerprints) -> None:
    """A sampler that only repeats itself is helped out by the grid."""
    space = {"generator.n_ctx": [1, 2, 4], "shots": [1, 2]}
    study = make_study(space=space, sampler="tpe", trials=50)
    done = drive(make_searcher(study, Ledger(), prints))
    assert len(done) == len({work.setting.key for work in done}) == 6


def test_a_repeated_proposal_is_told_its_known_value(prints: Fingerprints) -> None:
    """And the sampler is asked again."""
    study = make_study(sampler="random", trials=3, seeds=1)
    searcher = make_searcher(study, Ledger(), prints)
    done = {w.setting.key: truth(w.setting.config, 0) for w in drive(searcher)}
    told = [trial for trial in optuna_trials(searcher) if trial.state is TrialState.COMPLETE]
    assert len(told) >= len(done) == 3
    assert {trial.value for trial in told} == set(done.values())


def test_added_seeds_are_told_as_one_setting(prints: Fingerprints) -> None:
    """Its value is the mean over old and new seeds, in one Optuna trial."""
    study = make_study(space=KL, sampler="tpe", trials=1, seeds=2)
    setting = SettingMaker(study, prints)({"generator.kl_weight": 0.1})
    ledger = Ledger((run_of(setting, (0,), objective={0: 10.0}),))
    searcher = make_searcher(study, ledger, prints)
    assert optuna_trials(searcher) == []
    (work,) = drive(searcher)
    assert work.seeds == (1,)
    assert not work.judged
    (told,) = optuna_trials(searcher)
    assert told.value == pytest.approx((10.0 + truth(setting.config, 1)) / 2)


def test_conditional_factors_are_proposed_only_when_active(prints: Fingerprints) -> None:
    """A factor with `when` is left out of the other assignments."""
    space = {
        "generator": ["none", "vae"],
        "generator.kl_weight": {**KL["generator.kl_weight"], "when": {"generator": "vae"}},
    }
    study = make_study(space=space, sampler="random", trials=12)
    for work in drive(make_searcher(study, Ledger(), prints)):
        has = "generator.kl_weight" in work.setting.assignment
        assert has is (work.setting.assignment["generator"] == "vae")
