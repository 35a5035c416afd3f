"""Datasets that a study cannot use are refused when the study is loaded."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.load import load_study
from harness.errors import ConfigError
from ship.datasets import DatasetScan, Split
from ship.datasets.base import ImageFile
from ship.protocol_rules import find_missing_data
from ship.subsets import make_bare_features
from ship.trial_config import TrialConfig
from tests.case_files import load_cases
from tests.patterns import match_lines
from tests.ship.datasets.conftest import save_image


@pytest.mark.parametrize("case", load_cases(__file__, "missing_images.yaml"), ids=str)
def test_a_dataset_without_enough_images_is_one_line_error(case: dict[str, Any]) -> None:
    """The line has the dataset and the classes. A trial that can run has no such line."""
    names = tuple("abcdefgh"[: case.get("classes", 8)])

    def make_split(name: str) -> Split:
        missing = case.get("missing", {}).get(name, "")
        labels = np.repeat([n for n, letter in enumerate(names) if letter not in missing], 2)
        images = tuple(ImageFile(str(i), b"x") for i in range(len(labels)))
        return Split(images, labels.astype(np.int64))

    splits = {name: make_split(name) for name in ("train", "val", "test")}
    features = make_bare_features("own", DatasetScan(names, splits, n_seen=case.get("n_seen")))
    trial = TrialConfig.model_validate(case.get("trial", {}))
    messages = find_missing_data(
        trial, features, (0, 1), real_images=case.get("real_images", False)
    )
    assert len(messages) == ("message" in case)
    assert all(case["message"] in line for line in messages.values())


def write_caltech101(root: Path, classes_by_split: dict[str, str]) -> None:
    """Write a caltech101 with one image per class in each split."""
    folder = root / "caltech-101"
    document: dict[str, list[Any]] = {}
    for split, names in classes_by_split.items():
        document[split] = []
        for i, name in enumerate(names):
            path = f"{name}/{split}{i}.png"
            save_image(folder / "101_ObjectCategories" / path, i)
            document[split].append([path, "abcd".index(name), name])
    (folder / "split_zhou_Caltech101.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "case", load_cases(__file__, "dataset_fit.yaml"), ids=lambda case: str(case["case"])
)
def test_a_study_with_unsuitable_datasets_is_refused(tmp_path: Path, case: dict[str, Any]) -> None:
    """The line of a dataset has what is missing. Only data that the study uses is required."""
    images = case.get("images", {"train": "bcc", "val": "abc", "test": "abcd"})
    write_caltech101(tmp_path, images)
    for name, i in product(("cat", "dog"), range(4)):
        save_image(tmp_path / "pair" / name / f"{i}.png", i)
    study = {"space": {"shots": [1, 2]}, "controls": False, **case["study"]}
    relative_root = case.get("root", ".")
    root = None if relative_root is None else tmp_path / relative_root
    lines: list[str] = []
    try:
        load_study({"name": "x", **study}, (), root, label="x")
    except ConfigError as error:
        lines = [line.replace(str(tmp_path), "ROOT") for line in error.faults]
    assert match_lines(lines, case.get("lines", []))
