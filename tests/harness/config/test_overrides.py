"""--set key=value: what it reaches, and whose fault is whose."""

import re
from typing import Any

import pytest

from harness.config.choices import AshaScheduler
from harness.config.load import parse_study
from harness.config.overrides import apply_overrides, parse_overrides
from harness.config.space import resolve
from harness.errors import ConfigError

SOUND: dict[str, Any] = {"space": {"generator.n_ctx": [1, 2]}}


def test_overrides_reach_every_place() -> None:
    """Constants, whole groups, members of groups, study keys and factors can be set."""
    overrides = [
        "seeds=[4, 5]", "finetuner=tip_adapter_f", "finetuner.epochs=6", "generator.kl_weight=1e-2",
        "scheduler.grace_period=2", "resources.cpus=2", "space.shots={low: 1, high: 3, step: 1}",
        "space.generator.n_ctx.choices=[2, 4]", "space.generator.n_ctx.baseline=4",
    ]  # fmt: skip
    given = {**SOUND, "finetuner": {"name": "coop", "epochs": 3}, "scheduler": "asha"}
    study = parse_study(given, "x", overrides=overrides)
    assert (study.seeds, study.resources.cpus) == ((4, 5), 2.0)
    assert (study.trial.finetuner.name, study.trial.finetuner.epochs) == ("tip_adapter_f", 6)  # type: ignore[union-attr]
    assert study.trial.generator.kl_weight == 0.01  # type: ignore[union-attr]
    assert study.scheduler == AshaScheduler(grace_period=2)
    n_ctx = study.space["generator.n_ctx"]
    assert (n_ctx.choices, n_ctx.baseline) == ((2, 4), 4)
    assert study.space["shots"].enumerate() == (1, 2, 3)


OWN: dict[str, Any] = {
    **SOUND,
    "shots": 4,
    "finetuner": {"name": "coop", "epochs": 3},
    "variants": {"dataset": {"photos": {"shots": 2, "finetuner": {"epochs": 5, "lr": 0.5}}}},
}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], (4, "coop", 3, 2e-3)),
        (["dataset=photos"], (2, "coop", 5, 0.5)),
        (["dataset=photos", "finetuner.epochs=7"], (2, "coop", 7, 0.5)),
        (["dataset=photos", "finetuner=kgcoop"], (2, "kgcoop", 100, 2e-3)),
        (["dataset=photos", "variants.dataset.photos.finetuner.epochs=7"], (2, "coop", 7, 0.5)),
        (["dataset=photos", "variants=null"], (4, "coop", 3, 2e-3)),
    ],
)
def test_what_the_constant_dataset_has_of_its_own_is_constant(
    overrides: list[str], expected: tuple[int, str, int, float]
) -> None:
    """`--set dataset=NAME` takes that dataset's settings along; another --set goes over them."""
    study = parse_study(OWN, "x", overrides=overrides)
    tuner = study.trial.finetuner
    made = (study.trial.shots, tuner.name, tuner.epochs, tuner.lr)  # type: ignore[union-attr]
    assert made == expected
    assert resolve(study, {"generator.n_ctx": 1}).finetuner == tuner


VARIED: dict[str, Any] = {
    "space": {"generator": ["none", "vae", "wgan"], "finetuner": ["gda", "coop"]},
    "variants": {
        "generator": {"wgan": {"epochs": 5, "n_critic": 2}},
        "finetuner": {"coop": {"epochs": 7}},
        "dataset": {"photos": {"max_classes": 9, "generator": {"early_stopping": 3}}},
    },
}
SHRUNK = ("space.generator=[none, vae]", "space.finetuner=null")


def test_a_smaller_space_names_the_variants_to_drop() -> None:
    """The line has every --set that the command lacks; with them the study is sound."""
    with pytest.raises(ConfigError) as caught:
        parse_study(VARIED, "x", label="x", overrides=SHRUNK)
    (line,) = caught.value.faults
    drops = re.findall(r"--set (\S+?)[ )]", f"{line} ")
    assert drops == ["variants.generator.wgan=null", "variants.finetuner=null"]
    study = parse_study(VARIED, "x", overrides=[*SHRUNK, *drops])
    assert study.variants == {"generator": {}} and list(study.space) == ["generator"]


@pytest.mark.parametrize(
    ("override", "place", "left"),
    [
        ("variants.generator=null", (), {"finetuner", "dataset"}),
        ("variants.generator.wgan=null", ("generator",), set()),
        ("variants.generator.wgan.epochs=null", ("generator", "wgan"), {"n_critic"}),
        ("variants.dataset.photos.generator=null", ("dataset", "photos"), {"max_classes"}),
        ("variants.generator.mlp_vae=null", ("generator",), {"wgan"}),
        # where a setting may be null, that is a value: all classes, not the constant's number
        ("variants.dataset.photos.max_classes=null", ("dataset", "photos"),
         {"max_classes", "generator"}),
    ],
)  # fmt: skip
def test_null_drops_variants_at_each_depth(
    override: str, place: tuple[str, ...], left: set[str]
) -> None:
    """A group, a level, or one of its settings goes, and the rest stays."""
    (item,), _ = parse_overrides([override])
    found = apply_overrides(VARIED, [item])["variants"]
    for step in place:
        found = found[step]
    assert set(found) == left
