"""Study files and --set are loaded as studies, or refused with one line per fault."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.config import AshaScheduler
from harness.config.load import load_study
from harness.config.mapping import apply_overrides, parse_overrides
from harness.config.space import resolve, resolve_controls
from harness.config.study_config import StudyConfig
from harness.errors import ConfigError
from harness.removed import REMOVED
from harness.study_files import list_packaged_names, parse_value, to_json
from ship.configs.finetuners import CoOpConfig
from ship.templates import ENSEMBLE
from ship.trial_config import TrialConfig
from tests.case_files import load_cases
from tests.patterns import match_lines

VALID: dict[str, Any] = {"space": {"generator.n_ctx": [1, 2]}}
CASES: list[dict[str, Any]] = load_cases(__file__, "fault_cases.yaml")


def list_faults(mapping: dict[str, Any], **options: Any) -> list[str]:
    """Return the faults of a mapping. A valid study has none."""
    try:
        load_study({"name": "x", **mapping}, label="x", **options)
    except ConfigError as error:
        return error.faults
    return []


def test_omitted_keys_have_their_documented_defaults() -> None:
    """A space is sufficient: the study is a grid with five seeds on the packaged data.

    A space with a continuous range is searched by TPE. The default of the objective depends on
    protocol and selection.
    """
    study = load_study({"name": "prompt", **VALID})
    assert (study.name, study.sampler, study.n_trials) == ("prompt", "grid", None)
    assert study.seeds == (0, 1, 2, 3, 4)
    assert (study.scheduler.name, study.objective) == ("none", "harmonic_mean")
    assert (study.resources.cpus, study.resources.gpus) == (1.0, None)
    assert study.controls
    space = {"generator.kl_weight": {"low": 1e-4, "high": 1, "log": True}}
    assert load_study({"name": "x", "space": space, "n_trials": 3}).sampler == "tpe"
    assert load_study({**VALID, "name": "x", "selection": "base_val"}).objective == "base"
    space = {"selection": ["pseudo_new", "few_val"]}
    assert load_study({"name": "x", "space": space}).objective == "base"
    assert load_study({**VALID, "name": "x", "protocol": "few_shot"}).objective == "accuracy"


def test_study_is_restored_from_json() -> None:
    """The store has the study as JSON."""
    scheduler = {"name": "asha", "grace_period": 2}
    mapping = {**VALID, "name": "own-name", "description": "a line\n", "scheduler": scheduler}
    study = load_study(mapping).model_copy(update={"source": Path("x.yaml")})
    assert (study.name, study.description) == ("own-name", "a line")
    assert study.scheduler == AshaScheduler(grace_period=2, reduction_factor=3)
    assert StudyConfig.model_validate_json(study.model_dump_json()) == study


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_each_fault_is_one_line(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The line has the source, the path, the rule, the value and the choices."""
    monkeypatch.setattr("harness.config.checks.MAX_GRID", case.get("max_grid", 10_000))
    study = {**VALID, **parse_value(case.get("study", "{}"), "case")}
    lines = list_faults(study, overrides=case.get("overrides", ()))
    assert match_lines(lines, case["faults"].splitlines())


def test_removed_keys_are_reported_together_with_all_other_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They may be keys or values in the YAML, factors in space, or overrides."""
    for word in ("old", "group", "generator.old", "finetuner.old", "sampler: coin"):
        monkeypatch.setitem(REMOVED, word, f"{word} was removed. Leave it out.")
    study = {
        "old": 1,
        "sampler": "coin",
        "generator": {"name": "vae", "old": 2},
        "space": {"generator.n_ctx": [1, 2], "finetuner.old": [1, 2]},
    }
    assert sorted(list_faults(study, overrides=["group=3", "shots=0"])) == [
        "overrides (--set): group was removed. Leave it out.",
        "overrides (--set): shots must be >= 1, got 0",
        "x: finetuner.old was removed. Leave it out.",
        "x: generator.old was removed. Leave it out.",
        "x: old was removed. Leave it out.",
        "x: sampler: coin was removed. Leave it out.",
    ]


def test_faults_of_a_file_begin_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is printed as the user wrote it."""
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text("sed: 1\nspace: {augmentations: [0, 1]}\n")
    with pytest.raises(ConfigError) as caught:
        load_study("x.yaml")
    assert [line.split(" (")[0] for line in caught.value.faults] == [
        "x.yaml: sed is an unknown key"
    ]


def test_the_working_directory_has_priority_over_packaged_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name may end with .yaml. The packaged study is used if the file does not exist."""
    monkeypatch.chdir(tmp_path)
    assert load_study("prompt_len").space.keys() == {"generator.n_ctx"}
    Path("prompt_len.yaml").write_text("space: {shots: [1, 2]}\n")
    for name in ("prompt_len", "prompt_len.yaml", "./prompt_len.yaml"):
        assert load_study(name).space.keys() == {"shots"}


@pytest.mark.parametrize("name", list_packaged_names())
def test_packaged_studies_are_valid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a description and at least five seeds.

    The only faults are datasets that are not packaged and need a data root.
    """
    monkeypatch.chdir(tmp_path)
    try:
        study = load_study(name)
    except ConfigError as error:
        assert all("needs a data root" in fault for fault in error.faults)
        study = load_study(name, check_existence=False)
    assert study.name == name
    assert study.description
    assert len(study.seeds) >= 5


def load_authors_study(*overrides: str) -> StudyConfig:
    """Load the packaged study with the authors' options, on packaged images and weights."""
    return load_study("authors", ["backbone=pocket", "dataset=photos", *overrides])


def test_the_defaults_are_those_of_the_authors() -> None:
    """Omitted keys have the values of authors.yaml."""
    differences = {"backbone": "pocket", "dataset": "emoji", "selection": "pseudo_new"}
    differences |= {"templates": ("dataset",)}  # equal to the authors' templates for coop
    assert load_authors_study().base.model_copy(update=differences) == TrialConfig()


def test_the_authors_study_has_their_options_for_imagenet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If ImageNet is the dataset or a level, it has other epochs and a wider encoder."""
    monkeypatch.setattr("harness.config.requirements.DataRequirements.find_faults", lambda *_: [])
    constant = load_authors_study("dataset=imagenet").base
    as_factor = load_study("authors", ["backbone=pocket", "space.dataset=[photos, imagenet]"])
    assert resolve(as_factor, {"dataset": "imagenet"}) == constant
    photos = load_authors_study().base
    assert resolve(as_factor, {"dataset": "photos"}) == photos
    controls = resolve_controls(load_authors_study("dataset=imagenet", "finetuner=gda"))
    assert controls["zero_shot"].templates == ENSEMBLE  # the templates of GDA's authors
    generator = {**photos.generator.model_dump(), "epochs": 10, "encoder_hidden": 4096}
    assert constant.generator.model_dump() == generator
    assert constant.finetuner.model_dump() == CoOpConfig(epochs=20).model_dump()


OVERRIDES = load_cases(__file__, "overrides.yaml")


def get_value(owner: Any, name: str) -> Any:
    """Return the value at a dotted name. For a mapping, return its keys."""
    while name:
        if isinstance(owner, Mapping) and name in owner:
            key, name = name, ""
        else:
            key, _, name = name.partition(".")
        if isinstance(owner, Mapping) and key not in owner:
            # the name of a factor has a dot
            second_part, _, name = name.partition(".")
            key = f"{key}.{second_part}"
        owner = owner[key] if isinstance(owner, Mapping) else getattr(owner, key)
    return list(owner) if isinstance(owner, Mapping | tuple) else owner


@pytest.mark.parametrize("case", OVERRIDES, ids=lambda case: " ".join(case["set"]))
def test_overrides_set_keys_at_any_depth(case: dict[str, Any]) -> None:
    """They set constants, groups and their members, keys of the study, factors, and variants."""
    expected = case.get("yaml_has") or case["has"]
    if "yaml_has" in case:
        overrides, _ = parse_overrides(case["set"])
        study: Any = apply_overrides(to_json(case["study"], "x"), overrides)[0]
    else:
        study = load_study({"name": "x", **case["study"]}, case["set"])
    assert {name: get_value(study, name) for name in expected} == expected


def test_overrides_do_not_change_their_arguments() -> None:
    """Nested mappings of the YAML and of earlier overrides are copied."""
    mapping = {"resources": {"cpus": 1}}
    overrides, _ = parse_overrides(["resources.cpus=2", "log={}", "log.seed_curves=true"])
    tree, lines = apply_overrides(mapping, overrides)
    assert (tree["resources"], tree["log"], lines) == ({"cpus": 2}, {"seed_curves": True}, [])
    assert mapping == {"resources": {"cpus": 1}}
    assert overrides[1].value == {}
