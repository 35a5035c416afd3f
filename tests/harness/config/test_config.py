"""Study files and --set: valid ones become studies, and each fault of others is one line."""

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

SOUND: dict[str, Any] = {"space": {"generator.n_ctx": [1, 2]}}
CASES: list[dict[str, Any]] = load_cases(__file__, "fault_cases.yaml")


def faults_of(mapping: dict[str, Any], **settings: Any) -> list[str]:
    """Every fault of a mapping, none where it is a study; paths begin with "x:" or "override:"."""
    try:
        load_study({"name": "x", **mapping}, label="x", **settings)
    except ConfigError as error:
        return error.faults
    return []


def test_omitted_keys_have_their_documented_defaults() -> None:
    """A space by itself is a study: a grid over five seeds of the packaged data.

    If the space is no grid, it is searched. A selection with one objective has that one.
    """
    study = load_study({"name": "prompt", **SOUND})
    assert (study.name, study.sampler, study.n_trials) == ("prompt", "grid", None)
    assert study.seeds == (0, 1, 2, 3, 4)
    assert (study.scheduler.name, study.objective) == ("none", "harmonic_mean")
    assert (study.resources.cpus, study.resources.gpus) == (1.0, None)
    assert study.controls
    ranged = {"generator.kl_weight": {"low": 1e-4, "high": 1, "log": True}}
    assert load_study({"name": "x", "space": ranged, "n_trials": 3}).sampler == "tpe"
    assert load_study({**SOUND, "name": "x", "selection": "base_val"}).objective == "base"
    both = {"space": {"selection": ["pseudo_new", "few_val"]}}
    assert load_study({"name": "x", **both}).objective == "base"
    assert load_study({**SOUND, "name": "x", "protocol": "few_shot"}).objective == "accuracy"


def test_study_survives_json() -> None:
    """The JSON in the store has the whole study."""
    scheduler = {"name": "asha", "grace_period": 2}
    mapping = {**SOUND, "name": "own-name", "description": "a line\n", "scheduler": scheduler}
    study = load_study(mapping).model_copy(update={"source": Path("x.yaml")})
    assert (study.name, study.description) == ("own-name", "a line")
    assert study.scheduler == AshaScheduler(grace_period=2, reduction_factor=3)
    assert StudyConfig.model_validate_json(study.model_dump_json()) == study


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_each_fault_is_one_line(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault names source, path, rule, value and choices, and there are no other lines."""
    monkeypatch.setattr("harness.config.checks.MAX_GRID", case.get("most", 10_000))
    study = {**SOUND, **parse_value(case.get("study", "{}"), "case")}
    lines = faults_of(study, overrides=case.get("overrides", ()))
    assert match_lines(lines, case["faults"].splitlines())


def test_removed_keys_are_reported_together_with_all_other_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sentence replaces the fault of a key or a value, in the YAML, in space and in --set."""
    for word in ("old", "group", "generator.old", "finetuner.old", "sampler: coin"):
        monkeypatch.setitem(REMOVED, word, f"{word} was removed. Leave it out.")
    study = {
        "old": 1,
        "sampler": "coin",
        "generator": {"name": "vae", "old": 2},
        "space": {"generator.n_ctx": [1, 2], "finetuner.old": [1, 2]},
    }
    assert sorted(faults_of(study, overrides=["group=3", "shots=0"])) == [
        "overrides (--set): group was removed. Leave it out.",
        "overrides (--set): shots must be >= 1, got 0",
        "x: finetuner.old was removed. Leave it out.",
        "x: generator.old was removed. Leave it out.",
        "x: old was removed. Leave it out.",
        "x: sampler: coin was removed. Leave it out.",
    ]


def test_a_files_faults_begin_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is written as the user gave it."""
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
    """A name, with or without .yaml, is the working directory's file, else the packaged one."""
    monkeypatch.chdir(tmp_path)
    assert load_study("prompt_len").space.keys() == {"generator.n_ctx"}
    Path("prompt_len.yaml").write_text("space: {shots: [1, 2]}\n")
    for name in ("prompt_len", "prompt_len.yaml", "./prompt_len.yaml"):
        assert load_study(name).space.keys() == {"shots"}


@pytest.mark.parametrize("name", list_packaged_names())
def test_packaged_studies_are_valid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each loads, has a description, and has at least five seeds.

    Studies on datasets that are not packaged lack only these.
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


def reference(*overrides: str) -> StudyConfig:
    """The packaged study of the authors' settings, on images and a backbone that are packaged."""
    return load_study("authors", ["backbone=pocket", "dataset=photos", *overrides])


def test_the_defaults_are_those_of_the_authors() -> None:
    """Keys that are omitted have the values that authors.yaml writes out."""
    other = {"backbone": "pocket", "dataset": "emoji", "selection": "pseudo_new"}
    other |= {"templates": ("dataset",)}  # of coop, the authors have no others
    assert reference().base.model_copy(update=other) == TrialConfig()


def test_the_authors_study_has_their_imagenet_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a constant and as a level, it has 10 and 20 epochs, a wider encoder, and the rest."""
    monkeypatch.setattr("harness.config.requirements.DataRequirements.find_faults", lambda *_: [])
    constant = reference("dataset=imagenet").base
    varied = load_study("authors", ["backbone=pocket", "space.dataset=[photos, imagenet]"])
    assert resolve(varied, {"dataset": "imagenet"}) == constant
    assert resolve(varied, {"dataset": "photos"}) == reference().base
    controls = resolve_controls(reference("dataset=imagenet", "finetuner=gda"))
    assert controls["zero_shot"].templates == ENSEMBLE  # as GDA's own code has it
    generator = {**reference().base.generator.model_dump(), "epochs": 10, "encoder_hidden": 4096}
    assert constant.generator.model_dump() == generator
    assert constant.finetuner.model_dump() == CoOpConfig(epochs=20).model_dump()


OVERRIDES = load_cases(__file__, "overrides.yaml")


def value_at(place: Any, dotted: str) -> Any:
    """What stands at a dotted name; of a mapping its keys."""
    while dotted:
        whole = isinstance(place, Mapping) and dotted in place
        key, _, dotted = (dotted, "", "") if whole else dotted.partition(".")
        if isinstance(place, Mapping) and key not in place:  # a factor's name has a dot in it
            more, _, dotted = dotted.partition(".")
            key = f"{key}.{more}"
        place = place[key] if isinstance(place, Mapping) else getattr(place, key)
    return list(place) if isinstance(place, Mapping | tuple) else place


@pytest.mark.parametrize("case", OVERRIDES, ids=lambda case: " ".join(case["set"]))
def test_overrides_set_keys_at_any_depth(case: dict[str, Any]) -> None:
    """They set constants, groups, members, keys of the study, factors, and variants."""
    expected = case.get("left") or case["has"]
    if "left" in case:
        overrides, _ = parse_overrides(case["set"])
        study: Any = apply_overrides(to_json(case["study"], "x"), overrides)[0]
    else:
        study = load_study({"name": "x", **case["study"]}, case["set"])
    assert {key: value_at(study, key) for key in expected} == expected


def test_overrides_do_not_change_their_arguments() -> None:
    """Nested mappings of the YAML and of earlier overrides are copied."""
    mapping = {"resources": {"cpus": 1}}
    overrides, _ = parse_overrides(["resources.cpus=2", "log={}", "log.seed_curves=true"])
    tree, lines = apply_overrides(mapping, overrides)
    assert (tree["resources"], tree["log"], lines) == ({"cpus": 2}, {"seed_curves": True}, [])
    assert mapping == {"resources": {"cpus": 1}}
    assert overrides[1].value == {}
