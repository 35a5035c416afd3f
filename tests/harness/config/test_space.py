"""Grids, distributions, conditional factors, and the trials that settings stand for."""

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.config import space
from harness.config.load import parse_study
from harness.config.study_config import StudyConfig

CONDITIONAL: dict[str, Any] = {
    "generator": ["vae", "gaussian_text", "none"],
    "generator.n_ctx": {"choices": [1, 2], "when": {"generator": "vae"}},
    "generator.scale": {"choices": [0, 0.1], "when": {"generator": ["gaussian_text"]}},
}


def study_of(factors: dict[str, Any], **keys: Any) -> StudyConfig:
    """A study on the packaged data with these factors."""
    return parse_study({"space": factors, **keys}, "study")


def test_grid_is_the_product_with_the_last_factor_fastest() -> None:
    """A grid runs over every combination in the YAML's order; with trials, over the first ones."""
    factors = {"shots": [1, 2], "generator.n_ctx": [4, 8]}
    whole = space.grid(study_of(factors))
    assert space.grid(study_of(factors, trials=3)) == whole[:3]
    assert whole == [
        {"shots": 1, "generator.n_ctx": 4},
        {"shots": 1, "generator.n_ctx": 8},
        {"shots": 2, "generator.n_ctx": 4},
        {"shots": 2, "generator.n_ctx": 8},
    ]


@pytest.mark.parametrize("order", [list(CONDITIONAL), list(CONDITIONAL)[::-1]])
def test_conditional_factors_are_there_only_when_they_hold(order: list[str]) -> None:
    """A factor with `when` is left out of other settings, so that no setting comes twice."""
    found = space.grid(study_of({key: CONDITIONAL[key] for key in order}))
    expected: list[dict[str, Any]] = [
        {"generator": "vae", "generator.n_ctx": 1},
        {"generator": "vae", "generator.n_ctx": 2},
        {"generator": "gaussian_text", "generator.scale": 0.0},
        {"generator": "gaussian_text", "generator.scale": 0.1},
        {"generator": "none"},
    ]
    assert len(found) == len(expected)
    assert all(setting in found for setting in expected)


@pytest.mark.parametrize(
    ("key", "factor", "levels"),
    [
        ("n_ctx", {"low": 1, "high": 16, "log": True, "levels": 5}, [1, 2, 4, 8, 16]),
        (
            "kl_weight",
            {"low": 1e-4, "high": 1, "log": True, "levels": 5},
            [1e-4, 1e-3, 1e-2, 1e-1, 1.0],
        ),
        ("kl_weight", {"low": 0, "high": 1, "levels": 3}, [0.0, 0.5, 1.0]),
        ("kl_weight", {"low": 0.1, "high": 0.7, "step": 0.2}, [0.1, 0.3, 0.5, 0.7]),
        ("kl_weight", [1, 0.5], [1.0, 0.5]),
    ],
)
def test_levels_of_a_number(key: str, factor: Any, levels: list[float]) -> None:
    """Spaced evenly or in the logarithm, ends exact; of the field's type, whole or not."""
    found = space.levels(study_of({f"generator.{key}": factor}), f"generator.{key}")
    assert found == levels
    assert {type(level) for level in found} == {int if key == "n_ctx" else float}


@pytest.mark.parametrize(
    ("factor", "found"),
    [
        ({"low": 1, "high": 8}, 4),  # the constant
        ({"low": 5, "high": 8}, None),
        ({"low": 5, "high": 8, "baseline": 6}, 6),
        ({"low": 5, "high": 9, "levels": 3}, 5),
        ([8, 2], 8),
        ([8, 4], 4),
    ],
)
def test_a_factors_baseline_is_the_constant_where_it_can_be(factor: Any, found: Any) -> None:
    """Else the first level; a range without levels then has none."""
    key = "generator.n_ctx"
    study = study_of({key: factor, "shots": [2, 4]}, sampler="random", trials=2)
    assert study.space[key].baseline == found
    assert space.baseline(study) == ({key: found} if found else {}) | {"shots": 2}


@pytest.mark.parametrize(
    ("assignment", "fits"),
    [
        ({"generator": "vae", "generator.n_ctx": 2}, True),
        ({"generator": "none"}, True),
        ({"generator": "vae"}, False),
        ({"generator": "none", "generator.n_ctx": 2}, False),
        ({"generator": "vae", "generator.n_ctx": 3}, False),
        ({"generator": "none", "shots": 2}, False),
        ({}, False),
    ],
)
def test_what_belongs_to_a_space(assignment: dict[str, Any], fits: bool) -> None:
    """Levels of the factors that are active beside each other, all of them and no others."""
    assert space.belongs(study_of(CONDITIONAL), assignment) is fits


def test_what_belongs_to_a_range() -> None:
    """Numbers within it, whole ones of a whole range; the levels of a grid alone."""
    one = {"generator.n_ctx": {"low": 2, "high": 6, "levels": 3}}
    drawn = study_of(one, sampler="random", trials=2)
    values: list[Any] = [1, 2, 3, 3.5, 6, "4", True]
    assert [v for v in values if space.belongs(drawn, {"generator.n_ctx": v})] == [2, 3, 6]
    assert [v for v in values if space.belongs(study_of(one), {"generator.n_ctx": v})] == [2, 6]


def test_levels_are_a_grids_own() -> None:
    """Other samplers draw from the whole range, so that it has no levels, unless it has a step."""
    ranged = {"low": 0, "high": 1, "levels": 3}
    study = study_of({"generator.kl_weight": ranged}, sampler="tpe", trials=3)
    assert space.levels(study, "generator.kl_weight") is None


def test_distributions() -> None:
    """Each factor becomes the Optuna distribution of its kind."""
    study = study_of(
        {
            "generator.n_ctx": {"low": 1, "high": 16, "log": True},
            "generator.epochs": {"low": 10, "high": 30, "step": 10},
            "generator.kl_weight": {"low": 1e-4, "high": 1, "log": True},
            "finetuner": ["coop", "tip_adapter_f"],
        },
        trials=3,
    )
    assert space.distributions(study) == {
        "generator.n_ctx": IntDistribution(1, 16, log=True),
        "generator.epochs": IntDistribution(10, 30, step=10),
        "generator.kl_weight": FloatDistribution(1e-4, 1.0, log=True),
        "finetuner": CategoricalDistribution(("coop", "tip_adapter_f")),
    }


def test_reference_arms() -> None:
    """Four arms stand beside a study, at its constants and its factors' baselines, or none do."""
    factors = {
        "shots": {"choices": [1, 3], "baseline": 3},
        "finetuner": ["tip_adapter", "tip_adapter_f"],
    }
    arms = space.reference_arms(study_of(factors))
    assert space.reference_arms(study_of(factors, reference_arms=False)) == {}
    assert {name: (arm.generator.name, arm.finetuner.name) for name, arm in arms.items()} == {
        "zero_shot": ("none", "zero_shot"),
        "no_synthetic": ("none", "tip_adapter"),
        "text_feature": ("gaussian_text", "tip_adapter"),
        "real_pictures": ("real", "tip_adapter"),
    }
    assert {arm.shots for arm in arms.values()} == {3}


def test_settings_of_levels_and_of_datasets() -> None:
    """A level has its `variants`, another variant of a group its own defaults, else the constant.

    A dataset's own settings hold for it alone, over constants and `variants`; factors go over all.
    """
    study = study_of(
        {
            "dataset": ["emoji", "photos"],
            "generator": ["none", "vae", "wgan"],
            "finetuner": ["coop", "kgcoop"],
            "generator.n_ctx": {"choices": [1, 3], "when": {"generator": "wgan"}},
            "finetuner.lr": [0.1, 0.2],
        },
        generator="none",
        finetuner={"name": "coop", "epochs": 7},
        variants={
            "generator": {"vae": {"epochs": 3, "n_ctx": 8}, "wgan": {"epochs": 4, "n_ctx": 9}},
            "dataset": {
                "photos": {
                    "views": 0,
                    "finetuner": {"epochs": 5},
                    "generator": {"name": "vae", "epochs": 9, "n_ctx": 2},
                },
                "dtd": {"shots": 1},
            },
        },
    )
    found = {}
    for assignment in space.grid(study):
        made = space.resolve(study, assignment)
        tuner, source = made.finetuner, made.generator
        assert made.shots == 16
        assert tuner.lr == assignment["finetuner.lr"]  # type: ignore[union-attr]
        found[made.dataset, source.name, tuner.name] = (
            made.views,
            source.epochs if source.name != "none" else None,
            source.n_ctx if source.name != "none" else None,
            tuner.epochs,
        )
    assert found["emoji", "none", "kgcoop"] == (2, None, None, 100)
    kgcoop = space.resolve(study, {"finetuner": "kgcoop"}).finetuner.epochs
    assert found["emoji", "vae", "coop"] == (2, 3, 8, 7)
    assert found["photos", "vae", "coop"] == (0, 9, 2, 5)
    assert found["photos", "wgan", "coop"] == (0, 4, 3, 5)
    assert found["photos", "none", "coop"] == (0, None, None, 5)
    assert found["photos", "vae", "kgcoop"] == (0, 9, 2, kgcoop)  # unnamed: the constant's, coop


def test_the_arms_have_what_their_dataset_has() -> None:
    """Reference arms run with the own settings of the baseline dataset."""
    factors = {"dataset": {"choices": ["emoji", "photos"], "baseline": "photos"}}
    variants = {"dataset": {"photos": {"shots": 3, "finetuner": {"epochs": 5}}}}
    arm = space.reference_arms(study_of(factors, variants=variants))["no_synthetic"]
    assert (arm.dataset, arm.shots, arm.finetuner.epochs) == ("photos", 3, 5)  # type: ignore[union-attr]


def test_protocols_without_new_pictures_have_no_ceiling() -> None:
    """The real-picture arm is left out where there are no new classes' pictures to show."""
    few = study_of({"shots": [1, 2]}, protocol="few_shot")
    assert few.trial.selection == "base_val" and few.objective == "accuracy"
    assert set(space.reference_arms(few)) == {"zero_shot", "no_synthetic", "text_feature"}
    gzsl = study_of({"shots": [1, 2]}, protocol="generalized_zero_shot")
    assert "real_pictures" in space.reference_arms(gzsl)
    assert gzsl.objective == "harmonic_mean"
