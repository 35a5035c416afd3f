"""Grids, distributions, conditional factors, and the trials of configurations."""

from operator import attrgetter
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.config import space
from harness.config.factor import Factor
from harness.config.load import load_study
from harness.config.space import list_ordered_levels, make_optuna_params, suggest
from ship.trial_config import TrialConfig
from tests.case_files import load_cases
from tests.harness.fakes import make_study

SPACES = load_cases(__file__, "spaces.yaml")


def having(key: str) -> pytest.MarkDecorator:
    """Parametrize a test with the studies whose case has the key."""
    cases = [pytest.param(case, id=str(case["study"])) for case in SPACES if key in case]
    return pytest.mark.parametrize("case", cases)


def parts(trial: TrialConfig, keys: dict[str, Any]) -> dict[str, Any]:
    """Some keys of a trial."""
    return {key: attrgetter(key)(trial) for key in keys}


@having("grid")
def test_a_grid_is_the_product_of_its_levels_in_order(case: dict[str, Any]) -> None:
    """It has all combinations in the YAML's order, or the first n_trials of them."""
    assert space.enumerate_grid(load_study({"name": "x", **case["study"]})) == case["grid"]


@having("configurations")
def test_conditional_factors_are_active_only_if_their_condition_holds(case: dict[str, Any]) -> None:
    """The order in the YAML does not matter."""
    assignments = space.enumerate_grid(load_study({"name": "x", **case["study"]}))
    assert sorted(map(sorted_items, assignments)) == sorted(
        map(sorted_items, case["configurations"])
    )


def sorted_items(setting: dict[str, Any]) -> str:
    """A setting as a text that tells it from others."""
    return str(sorted(setting.items()))


@having("levels")
def test_a_numeric_factor_lists_its_levels(case: dict[str, Any]) -> None:
    """Integers and floats keep their types."""
    study = load_study({"name": "x", **case["study"]})
    levels = space.list_levels(study, *study.space)
    assert repr(levels and list(levels)) == repr(case["levels"])


@having("baseline")
def test_a_factors_baseline_is_the_constant_if_it_is_a_level(case: dict[str, Any]) -> None:
    """The factor and the whole space agree."""
    study = load_study({"name": "x", **case["study"]})
    assert space.make_baseline(study) == case["baseline"]
    of_factors = {key: factor.baseline for key, factor in study.space.items()}
    assert {key: value for key, value in of_factors.items() if value} == case["baseline"]


@having("inside")
def test_a_space_contains_assignments_of_its_active_factors(case: dict[str, Any]) -> None:
    """They have levels of all active factors and of no others."""
    study = load_study({"name": "x", **case["study"]})
    assignments = [*case["inside"], *case["outside"]]
    assert [assignment for assignment in assignments if space.belongs(study, assignment)] == case[
        "inside"
    ]


def test_each_factor_has_an_optuna_distribution() -> None:
    """The distribution is of the factor's kind."""
    factors = {
        "generator.n_ctx": {"low": 1, "high": 16, "log": True},
        "generator.epochs": {"low": 10, "high": 30, "step": 10},
        "generator.kl_weight": {"low": 1e-4, "high": 1, "log": True},
        "generator.latent_dim": [512, 16, 128],
        "finetuner": ["coop", "tip_adapter_f"],
        "generator.ctx_init": [None, "a photo of a"],
        "pseudo_new_fraction": [0.5],
    }
    drawn = optuna.create_study().ask()
    suggest(drawn, load_study({"name": "x", "space": factors, "n_trials": 3}))
    assert drawn.distributions == {
        "generator.n_ctx": IntDistribution(1, 16, log=True),
        "generator.epochs": IntDistribution(0, 2),
        "generator.kl_weight": FloatDistribution(1e-4, 1.0, log=True),
        "generator.latent_dim": IntDistribution(0, 2),
        "finetuner": CategoricalDistribution(("coop", "tip_adapter_f")),
        "generator.ctx_init": CategoricalDistribution((None, "a photo of a")),
        "pseudo_new_fraction": IntDistribution(0, 0),
    }


@pytest.mark.parametrize(
    ("choices", "ascending"),
    [
        ([16, 8, 4, 2, 1], [1, 2, 4, 8, 16]),
        ([1, 0.001, 10], [0.001, 1, 10]),
        ([True, False], []),
        ([0, True], []),
        ([None, 4], []),
        (["vae", "none"], []),
    ],
)
def test_only_numbers_are_ordered(choices: list[Any], ascending: list[Any]) -> None:
    """Texts, booleans, null and mixtures are categories, and the YAML's order does not matter."""
    assert list_ordered_levels(Factor(choices=tuple(choices))) == ascending


def test_a_level_is_drawn_from_its_index() -> None:
    """suggest() reads what optuna_params() writes, and 4.0 is the level 4."""
    space = {"generator.n_ctx": [16, 4, 1], "finetuner": ["coop", "clip_adapter"]}
    study = make_study(space=space, sampler="tpe", n_trials=3)
    params = make_optuna_params(study, {"generator.n_ctx": 4.0, "finetuner": "coop"})
    assert params == {"generator.n_ctx": 1, "finetuner": "coop"}
    drawn = suggest(optuna.trial.FixedTrial(params), study)
    assert drawn == {"generator.n_ctx": 4, "finetuner": "coop"}


@having("trials")
def test_trials_have_the_variants_of_their_levels_and_datasets(case: dict[str, Any]) -> None:
    """Each configuration becomes a trial with these options."""
    study = load_study({"name": "x", **case["study"]})
    for trial in case["trials"]:
        assert trial["at"] in space.enumerate_grid(study)
        assert parts(space.resolve(study, trial["at"]), trial["has"]) == trial["has"], trial


@having("controls")
def test_each_study_has_its_controls(case: dict[str, Any]) -> None:
    """They have the names and the options of the case."""
    controls = space.resolve_controls(load_study({"name": "x", **case["study"]}))
    assert controls.keys() == case["controls"].keys()
    assert {name: parts(controls[name], keys) for name, keys in case["controls"].items()} == case[
        "controls"
    ]


def test_a_sampler_draws_both_ends_of_a_range_with_a_rounded_step() -> None:
    """Three steps of 0.33333334 are slightly more than 1, and 1 is a level nevertheless."""
    key = "generator.kl_weight"
    space = {key: {"low": 0.0, "high": 1.0, "step": 0.33333334}}
    study = make_study(space=space, sampler="tpe", n_trials=4)
    params = [make_optuna_params(study, {key: value}) for value in (0.0, 0.333333, 0.666667, 1.0)]
    assert [param[key] for param in params] == [0, 1, 2, 3]
    assert suggest(optuna.trial.FixedTrial(params[3]), study) == {key: 1.0}
