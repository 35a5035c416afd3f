"""Spaces of studies: grids, distributions, conditional factors, and trials of configurations."""

from collections.abc import Iterable
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


def parametrize_cases_with(key: str) -> pytest.MarkDecorator:
    """Parametrize a test with the cases that have this key."""
    cases = [pytest.param(case, id=str(case["study"])) for case in SPACES if key in case]
    return pytest.mark.parametrize("case", cases)


def get_values(trial: TrialConfig, names: Iterable[str]) -> dict[str, Any]:
    """Return the values of a trial at these dotted names."""
    return {name: attrgetter(name)(trial) for name in names}


@parametrize_cases_with("grid")
def test_a_grid_is_the_product_of_its_levels_in_order(case: dict[str, Any]) -> None:
    """The order is that of the YAML, and n_trials limits the number of configurations."""
    assert space.enumerate_grid(load_study({"name": "x", **case["study"]})) == case["grid"]


@parametrize_cases_with("configurations")
def test_conditional_factors_are_active_only_if_their_condition_holds(case: dict[str, Any]) -> None:
    """The order of the factors in the YAML does not matter."""
    assignments = space.enumerate_grid(load_study({"name": "x", **case["study"]}))
    # compared as texts, in which 0 and 0.0 differ
    actual = [str(sorted(assignment.items())) for assignment in assignments]
    expected = [str(sorted(assignment.items())) for assignment in case["configurations"]]
    assert sorted(actual) == sorted(expected)


@parametrize_cases_with("levels")
def test_a_numeric_factor_lists_its_levels(case: dict[str, Any]) -> None:
    """Levels are integers or floats, like the option."""
    study = load_study({"name": "x", **case["study"]})
    levels = space.list_levels(study, *study.space)
    assert repr(levels and list(levels)) == repr(case["levels"])


@parametrize_cases_with("baseline")
def test_a_factors_baseline_is_the_constant_if_it_is_a_level(case: dict[str, Any]) -> None:
    """The baselines of single factors equal that of the space."""
    study = load_study({"name": "x", **case["study"]})
    assert space.make_baseline(study) == case["baseline"]
    baselines = {key: factor.baseline for key, factor in study.space.items()}
    assert {key: value for key, value in baselines.items() if value} == case["baseline"]


@parametrize_cases_with("inside")
def test_a_space_contains_assignments_of_its_active_factors(case: dict[str, Any]) -> None:
    """Such an assignment has a level of each active factor and no other keys."""
    study = load_study({"name": "x", **case["study"]})
    assignments = [*case["inside"], *case["outside"]]
    inside = [assignment for assignment in assignments if space.belongs(study, assignment)]
    assert inside == case["inside"]


def test_each_factor_has_an_optuna_distribution() -> None:
    """Ordered levels are drawn by their index, categories by their value."""
    factors = {
        "generator.n_ctx": {"low": 1, "high": 16, "log": True},
        "generator.epochs": {"low": 10, "high": 30, "step": 10},
        "generator.kl_weight": {"low": 1e-4, "high": 1, "log": True},
        "generator.latent_dim": [512, 16, 128],
        "finetuner": ["coop", "tip_adapter_f"],
        "generator.ctx_init": [None, "a photo of a"],
        "pseudo_new_fraction": [0.5],
    }
    trial = optuna.create_study().ask()
    suggest(trial, load_study({"name": "x", "space": factors, "n_trials": 3}))
    assert trial.distributions == {
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
    """Texts, booleans, null and mixtures are categories. The order in the YAML has no effect."""
    assert list_ordered_levels(Factor(choices=tuple(choices))) == ascending


def test_a_level_is_drawn_from_its_index() -> None:
    """suggest() is the inverse of make_optuna_params(), in which 4.0 is the level 4."""
    space = {"generator.n_ctx": [16, 4, 1], "finetuner": ["coop", "clip_adapter"]}
    study = make_study(space=space, sampler="tpe", n_trials=3)
    params = make_optuna_params(study, {"generator.n_ctx": 4.0, "finetuner": "coop"})
    assert params == {"generator.n_ctx": 1, "finetuner": "coop"}
    assignment = suggest(optuna.trial.FixedTrial(params), study)
    assert assignment == {"generator.n_ctx": 4, "finetuner": "coop"}


@parametrize_cases_with("trials")
def test_trials_have_the_variants_of_their_levels_and_datasets(case: dict[str, Any]) -> None:
    """Factors override the options of datasets, which override variants and constants."""
    study = load_study({"name": "x", **case["study"]})
    for expected in case["trials"]:
        assert expected["at"] in space.enumerate_grid(study)
        trial = space.resolve(study, expected["at"])
        assert get_values(trial, expected["has"]) == expected["has"], expected


@parametrize_cases_with("controls")
def test_each_study_has_its_controls(case: dict[str, Any]) -> None:
    """Controls have the constants and the baselines of the factors."""
    controls = space.resolve_controls(load_study({"name": "x", **case["study"]}))
    assert controls.keys() == case["controls"].keys()
    for name, expected in case["controls"].items():
        assert get_values(controls[name], expected) == expected


def test_a_sampler_draws_both_ends_of_a_range_with_a_rounded_step() -> None:
    """Three steps of 0.33333334 are slightly more than 1, and 1 is still a level."""
    key = "generator.kl_weight"
    space = {key: {"low": 0.0, "high": 1.0, "step": 0.33333334}}
    study = make_study(space=space, sampler="tpe", n_trials=4)
    params = [make_optuna_params(study, {key: value}) for value in (0.0, 0.333333, 0.666667, 1.0)]
    assert [param[key] for param in params] == [0, 1, 2, 3]
    assert suggest(optuna.trial.FixedTrial(params[3]), study) == {key: 1.0}
