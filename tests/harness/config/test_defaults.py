"""Defaults of the packaged backbone: the studies that have them, and keys that override them."""

from typing import Any

import pytest

from harness.config.defaults import load_defaults
from harness.config.load import load_study
from harness.config.resolved_yaml import format_resolved_yaml
from harness.config.space import GROUPS, resolve
from harness.config.study_config import StudyConfig
from harness.errors import ConfigError
from harness.study_files import list_packaged_names, parse_value
from ship.trial_config import TrialConfig

BARE: dict[str, Any] = {"space": {"generator": ["none", "vae", "real"]}}
CLIP = "ViT-B-16:openai"


def load_bare_study(*overrides: str, **keys: Any) -> StudyConfig:
    """Load the study that has only a space, with these keys and overrides."""
    return load_study({"name": "bare", **BARE, **keys}, overrides, check_existence=False)


def remove_sources(study: StudyConfig) -> StudyConfig:
    """Return the study without the two fields that contain only the sources of its values."""
    return study.model_copy(update={"source": None, "backbone_defaults": {}})


def test_a_space_without_other_keys_has_the_packaged_backbones_defaults() -> None:
    """Dataset, fine-tuner and generator have them, and backbone_defaults lists all of them."""
    study = load_bare_study()
    trial = resolve(study, {"generator": "vae"})
    assert (trial.backbone, trial.dataset, trial.synthetic.resample) == ("pocket", "photos", False)
    finetuner = trial.finetuner.model_dump()
    assert (finetuner["name"], finetuner["lr"], finetuner["epochs"]) == ("coop", 0.3, 60)
    vae = load_defaults()["generator.vae"]
    assert trial.generator.model_dump().items() >= vae.items()
    assert study.backbone_defaults == {
        "dataset": "photos",
        "synthetic.resample": False,
        "finetuner.coop.lr": 0.3,
        "finetuner.coop.epochs": 60,
        **{f"generator.vae.{key}": value for key, value in vae.items()},
    }
    controls = {"generator": "none"}, {"generator": "real"}
    assert all(resolve(study, control).finetuner == trial.finetuner for control in controls)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"finetuner": "coop"}, {"lr": 0.3, "epochs": 60}),
        ({"finetuner": {"name": "coop", "n_ctx": 8}}, {"lr": 0.3, "epochs": 60, "n_ctx": 8}),
        ({"finetuner": {"lr": 0.01}}, {"name": "coop", "lr": 0.01, "epochs": 60}),
        ({"finetuner": "clip_adapter"}, {"lr": 0.003, "epochs": 60, "batch_size": 32}),
        ({"finetuner": "tip_adapter"}, {"alpha": 1.0, "beta": 5.5}),
        ({"finetuner": "tip_adapter_f"}, {"alpha": 1.0, "beta": 5.5, "lr": 0.001}),
        ({"finetuner": "cocoop"}, {"lr": 0.002, "epochs": 10, "batch_size": 1}),
    ],
    ids=str,
)
def test_a_key_of_the_yaml_overrides_the_default(
    keys: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Omitted keys have the backbone's defaults, or the authors' if the method has none."""
    study = load_bare_study(**keys, dataset="emoji", synthetic={"resample": True})
    assert study.base.finetuner.model_dump().items() >= expected.items()
    assert (study.base.dataset, study.base.synthetic.resample) == ("emoji", True)
    assert not {"dataset", "synthetic.resample"} & study.backbone_defaults.keys()


def test_levels_of_a_factor_have_the_defaults_of_their_method() -> None:
    """A variant in the YAML has priority. Methods without defaults get no variant."""
    space = {"finetuner": ["coop", "kgcoop", "gda"], "generator": ["none", "wgan"]}
    study = load_bare_study(space=space, variants={"finetuner": {"kgcoop": {"lr": 0.1}}})
    kgcoop = resolve(study, {"finetuner": "kgcoop", "generator": "none"}).finetuner.model_dump()
    assert (kgcoop["lr"], kgcoop["epochs"], kgcoop["batch_size"]) == (0.1, 20, 64)
    assert study.variants["finetuner"].keys() == {"kgcoop"}
    assert study.variants["generator"] == {"wgan": load_defaults()["generator.wgan"]}
    assert "finetuner.kgcoop.lr" not in study.backbone_defaults
    assert study.backbone_defaults["finetuner.kgcoop.epochs"] == 20
    assert not any(key.startswith("generator.vae") for key in study.backbone_defaults)


def test_a_factor_has_the_default_as_its_baseline() -> None:
    """The default is then not listed, unless the factor is conditional and the default is used."""
    study = load_bare_study(space={"finetuner.lr": [0.03, 0.3]})
    assert study.space["finetuner.lr"].baseline == 0.3
    assert "finetuner.coop.lr" not in study.backbone_defaults
    conditional = {"finetuner.lr": {"choices": [0.03, 0.1], "when": {"generator": "vae"}}}
    study = load_bare_study(space={**BARE["space"], **conditional})
    assert study.backbone_defaults["finetuner.coop.lr"] == 0.3


def test_overrides_count_as_keys_of_the_yaml() -> None:
    """An overriding value replaces the default, and an overriding method has its own defaults."""
    assert load_bare_study("finetuner.lr=0.01").base.finetuner.model_dump()["lr"] == 0.01
    adapter = load_bare_study("finetuner=clip_adapter").base.finetuner.model_dump()
    assert (adapter["name"], adapter["lr"]) == ("clip_adapter", 0.003)


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [([f"backbone={CLIP}"], {}), ([], {"backbone": CLIP})],
    ids=["--set", "YAML"],
)
def test_another_backbone_has_the_authors_options(
    overrides: list[str], keys: dict[str, Any]
) -> None:
    """There are no defaults of the backbone, and a dataset is required."""
    study = load_bare_study(*overrides, **keys, dataset="caltech101")
    authors = {"backbone": CLIP, "dataset": "caltech101"}
    assert study.base == TrialConfig().model_copy(update=authors)
    assert (study.variants, study.backbone_defaults) == ({}, {})
    with pytest.raises(ConfigError, match=r"bare: dataset is required \(choices: .*photos"):
        load_study({"name": "bare", **BARE, **keys}, overrides, check_existence=False, label="bare")


def test_a_backbone_that_varies_has_no_defaults() -> None:
    """Its levels would otherwise differ in more than the backbone. A dataset is required."""
    space = {"backbone": ["pocket", CLIP], "dataset": ["photos", "emoji"]}
    study = load_bare_study(space=space)
    assert study.backbone_defaults == {}
    assert study.base.finetuner == TrialConfig().finetuner
    with pytest.raises(ConfigError, match="dataset is required"):
        load_bare_study(space={"backbone": ["pocket", CLIP]})


def test_every_default_is_valid_and_differs_from_the_authors() -> None:
    """All keys of the file are options of their method."""
    for path, defaults in load_defaults().items():
        group, _, method = path.partition(".")
        kinds = GROUPS[group] if group else {"": TrialConfig}
        authors, changed = kinds[method](), kinds[method](**defaults)
        assert defaults, path
        assert "backbone" not in defaults
        for key in defaults:
            assert getattr(changed, key) != getattr(authors, key), f"{path}.{key}"


@pytest.mark.parametrize("name", list_packaged_names())
def test_packaged_studies_contain_all_keys_with_a_default(name: str) -> None:
    """A change of the defaults does not affect their configurations."""
    assert load_study(name, check_existence=False).backbone_defaults == {}


@pytest.mark.parametrize("name", [*list_packaged_names(), "bare"])
def test_the_resolved_yaml_is_loaded_as_the_same_study(name: str) -> None:
    """It contains all defaults of the backbone."""
    if name == "bare":
        study = load_bare_study(space={"finetuner": ["coop", "tcp"]})
    else:
        study = load_study(name, check_existence=False)
    resolved = load_study(parse_value(format_resolved_yaml(study), name), check_existence=False)
    assert resolved.backbone_defaults == {}
    assert remove_sources(resolved) == remove_sources(study)
