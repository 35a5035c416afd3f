"""Datasets that cannot carry a study's settings are refused before any work, by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from harness.config import bare_features
from harness.config.load import parse_study
from harness.errors import ConfigError
from ship.datasets import Split, Survey
from ship.datasets.base import Picture
from ship.subsets import lacking
from ship.trial_config import TrialConfig
from tests.ship.datasets.conftest import save_picture

SPACE: dict[str, Any] = {"space": {"shots": [1, 2]}, "reference_arms": False}
CASES = YAML(typ="safe").load((Path(__file__).parent / "lacking.yaml").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_lacking(case: dict[str, Any]) -> None:
    """One line with the dataset and the classes, and none where the trial can run."""
    names = tuple("abcdefgh"[: case.get("classes", 8)])

    def split(name: str) -> Split:
        lacks = case.get("lacks", {}).get(name, "")
        labels = np.repeat([n for n, letter in enumerate(names) if letter not in lacks], 2)
        pictures = tuple(Picture(str(i), b"x") for i in range(len(labels)))
        return Split(pictures, labels.astype(np.int64))

    splits = {name: split(name) for name in ("train", "val", "test")}
    features = bare_features("own", Survey(names, splits, n_seen=case.get("n_seen")))
    trial = TrialConfig.model_validate(case.get("trial", {}))
    found = lacking(trial, features, (0, 1), shown=case.get("shown", False))
    assert len(found) == ("says" in case)
    assert all(case["says"] in line for line in found.values())


def refused(root: Path | None, mapping: dict[str, Any]) -> list[str]:
    """The lines that a study is refused with."""
    with pytest.raises(ConfigError) as caught:
        parse_study({**SPACE, **mapping}, "x", label="x", data_root=root)
    return caught.value.faults


def caltech(root: Path, **shown: str) -> None:
    """caltech101 with a picture of each of these classes in its splits."""
    folder = root / "caltech-101"
    document: dict[str, list[Any]] = {}
    for split, names in shown.items():
        document[split] = []
        for i, name in enumerate(names):
            path = f"{name}/{split}{i}.png"
            save_picture(folder / "101_ObjectCategories" / path, i)
            document[split].append([path, "abcd".index(name), name])
    (folder / "split_zhou_Caltech101.json").write_text(json.dumps(document))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """pair: two classes. caltech101: a lacks train, d train and val pictures."""
    for name in ("cat", "dog"):
        for i in range(4):
            save_picture(tmp_path / "pair" / name / f"{i}.png", i)
    caltech(tmp_path, train="bcc", val="abc", test="abcd")
    return tmp_path


def test_each_level_that_cannot_carry_the_study_is_named(root: Path) -> None:
    """Levels of dataset and selection that are sound together pass; the others have a line each."""
    levels = ["emoji", "image_folder:pair", "caltech101"]
    assert refused(root, {"space": {"dataset": levels}}) == [
        "x: space.dataset.choices[1] must have at least 2 seen classes when selection is "
        "pseudo_new: image_folder:pair has 1 under protocol base_to_new",
        "x: space.dataset.choices[2] must have training pictures of every seen class: caltech101 "
        "has none of 'a'",
    ]


def test_conditions_decide_what_must_be_there(root: Path) -> None:
    """A selection that is there beside another dataset alone is not held against this one."""
    pair: dict[str, Any] = {"dataset": ["emoji", "image_folder:pair"], "selection": {
        "choices": ["pseudo_new"], "when": {"dataset": ["emoji"]}}}  # fmt: skip
    parse_study({**SPACE, "space": pair, "selection": "base_val"}, "x", data_root=root)
    del pair["selection"]["when"]
    assert len(refused(root, {"space": pair})) == 1


def test_the_arms_dataset_must_show_new_classes(root: Path) -> None:
    """The arm real_pictures is refused beside it, and can be left out."""
    study = {"dataset": "caltech101", "protocol": "single_unseen", "unseen_class": "a"}
    study |= {"selection": "test", "reference_arms": True}
    (seen, real) = refused(root, study)
    assert seen.endswith("every seen class: caltech101 has none of 'd'")
    assert real.endswith("(reference_arms: false leaves it out): caltech101 has none of 'a'")


def test_variants_settings_count(root: Path) -> None:
    """early_stopping of a level of generator, or of one dataset, is that of the trials with it."""
    caltech(root, train="abc", val="d", test="abcd")
    study: dict[str, Any] = {"dataset": "caltech101", "selection": "test"}
    study["space"] = {"generator": ["vae", "mlp_vae"]}
    parse_study({**SPACE, **study}, "x", data_root=root)
    early = {"generator": {"mlp_vae": {"early_stopping": 3}}}
    own = {"dataset": {"caltech101": {"generator": {"early_stopping": 3}}}}
    for variants in (early, own):
        (line,) = refused(root, {**study, "variants": variants})
        assert "when generator.early_stopping is given: caltech101 has none of 'a', 'b'" in line


def test_a_hint_cures(root: Path) -> None:
    """--data-root is suggested where it is missing, and nowhere else."""
    assert "(give --data-root DIR)" in refused(None, {"dataset": "caltech101"})[0]
    for given, name in ((root / "absent", "caltech101"), (root, "image_folder:../up"),
                        (None, "image_folder:../up")):  # fmt: skip
        (line, *_) = refused(given, {"dataset": name})
        assert "--data-root" not in line
        assert ("must be a folder inside" in line) == (name != "caltech101")
