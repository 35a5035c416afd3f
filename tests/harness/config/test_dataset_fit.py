"""Datasets that cannot carry a study's settings are refused before any work, by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config import bare_features
from harness.config.load import parse_study
from harness.errors import ConfigError
from ship.datasets import Split, Survey
from ship.datasets.base import Picture
from ship.subsets import lacking
from ship.trial_config import TrialConfig
from tests.ship.datasets.conftest import save_picture

SPACE: dict[str, Any] = {"space": {"shots": [1, 2]}, "reference_arms": False}
EIGHT = tuple("abcdefgh")


def survey(counts: dict[str, list[int]], n_seen: int | None = None) -> Survey:
    """Classes a, b, ... with so many pictures each in train, val and test."""

    def split(name: str) -> Split:
        labels = np.repeat(np.arange(len(counts[name])), counts[name]).astype(np.int64)
        return Split(tuple(Picture(str(i), b"x") for i in range(len(labels))), labels)

    names = EIGHT[: len(counts["train"])]
    return Survey(names, {name: split(name) for name in counts}, n_seen=n_seen)


def lines(
    counts: dict[str, list[int]], seeds: tuple[int, ...] = (0, 1), shown: bool = False, **keys: Any
) -> list[str]:
    """What a trial's dataset lacks."""
    features = bare_features("own", survey(counts, keys.pop("n_seen", None)))
    found = lacking(TrialConfig.model_validate(keys), features, seeds, shown=shown)
    return list(found.values())


def full(n: int = 8, **changed: list[int]) -> dict[str, list[int]]:
    """Two pictures of each class in each split, but for the splits given."""
    return {"train": [2] * n, "val": [2] * n, "test": [2] * n, **changed}


NO_C = [2, 2, 0, 2, 2, 2, 2, 2]
NO_H = [2] * 7 + [0]
NONE = [0] * 8
EARLY = {"name": "vae", "early_stopping": 2}


@pytest.mark.parametrize(
    ("counts", "keys", "expected"),
    [
        (full(train=NO_C), {}, "training pictures of every seen class: own has none of 'c'"),
        (full(train=NO_H), {}, ""),
        (full(train=NO_H), {"protocol": "few_shot", "selection": "base_val"}, "none of 'h'"),
        (full(train=NO_H), {"protocol": "cross_dataset"}, "every seen class: own has none of 'h'"),
        (full(train=NO_C), {"protocol": "single_unseen", "unseen_class": "c"}, ""),
        (full(train=NO_C), {"max_classes": 4}, ""),
        (full(train=NO_C), {"max_classes": 5}, "none of 'c'"),
        (full(train=NO_C), {"n_seen": 2, "selection": "base_val"}, ""),
        (full(train=NO_H), {"generator": "real"}, "when generator is real: own has none of 'h'"),
        (full(train=NO_H), {"shown": True}, "for the arm real_pictures (reference_arms: false"),
        (full(val=NONE), {}, "validation pictures of seen classes when selection is pseudo_new"),
        (full(val=NONE), {"selection": "base_val"}, "when selection is base_val: own has none of"),
        (full(val=NONE), {"selection": "test"}, ""),
        (full(val=NONE), {"selection": "test", "generator": EARLY}, "early_stopping is given"),
        (full(val=NONE), {"selection": "test", "generator": {**EARLY, "prompt": "fixed"}}, ""),
        (full(val=[2] + [0] * 7), {}, "on both sides when selection is pseudo_new (not so for"),
        (full(val=[2] + [0] * 7), {"selection": "base_val"}, ""),
        (full(2), {}, "at least 2 seen classes when selection is pseudo_new: own has 1 under"),
        (full(2), {"selection": "base_val"}, ""),
        (full(2), {"protocol": "single_unseen"}, "own has 1 under protocol single_unseen"),
        (full(1), {"selection": "base_val"}, "at least 2 classes: own has 1"),
        (full(test=[2] * 4 + [0] * 4), {}, "test pictures of unseen classes: own has none of 'e'"),
        (full(test=[0] * 4 + [2] * 4), {}, "test pictures of seen classes"),
        (full(test=NONE), {"protocol": "cross_dataset"}, ""),
    ],
)
def test_what_is_lacking(counts: dict[str, list[int]], keys: dict[str, Any], expected: str) -> None:
    """One line with the dataset and the classes, and none where the trial can run."""
    found = lines(counts, **keys)
    assert len(found) == bool(expected)
    assert all(expected in line for line in found)


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
