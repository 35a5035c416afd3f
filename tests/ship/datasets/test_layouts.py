"""What holds for every layout: sound trees load, spoilt ones are named, whatever the layout."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from ship.datasets import DATASETS, SPLITS, load_dataset, survey_dataset
from tests.ship.datasets.trees import LAYOUTS


@pytest.fixture(params=LAYOUTS)
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A dataset of each layout, whose tree lies in tmp_path."""
    LAYOUTS[request.param](tmp_path)
    return request.param


def test_a_sound_tree_loads(name: str, tmp_path: Path) -> None:
    """Labels fit the names, which keep their accents; none is in two splits, and they open."""
    dataset = load_dataset(name, tmp_path)
    assert dataset.name == name
    assert dataset.template.format("X").count("X") == 1
    assert list(dataset.splits) == list(SPLITS)
    assert set(dataset.splits["test"].labels.tolist()) == set(range(len(dataset.class_names)))
    pictures = [p for split in dataset.splits.values() for p in split.pictures]
    assert len({picture.name for picture in pictures}) == len(pictures)
    for split in dataset.splits.values():
        assert split.labels.dtype == np.int64
        assert len(split.labels) == len(split.pictures)
    assert pictures[0].open().size == (40, 32)
    assert any("café" in found.lower() for found in dataset.class_names)


def test_a_set_of_another_size_is_reported(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where counts are published, a set that differs from them loads with a warning."""
    with caplog.at_level(logging.WARNING):
        load_dataset(name, tmp_path)
    spec = DATASETS.get(name)
    assert ("cannot be compared with published" in caplog.text) == (spec is not None)
    if spec is not None:
        assert f" of {spec.classes} classes" in caplog.text


def test_the_fingerprint_follows_the_content(name: str, tmp_path: Path) -> None:
    """A moved tree keeps its fingerprint; a picture of other content has another."""
    before = load_dataset(name, tmp_path)
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    shutil.copytree(tmp_path, moved)
    assert load_dataset(name, moved).fingerprint == before.fingerprint
    source = load_dataset(name, moved).splits["test"].pictures[0].source
    assert isinstance(source, Path)
    source.write_bytes(source.read_bytes() + b"x")
    assert load_dataset(name, moved).fingerprint != before.fingerprint


def test_empty_folders_are_refused(name: str, tmp_path: Path) -> None:
    """Folders without a single file are faults, not an empty dataset."""
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()
    found = survey_dataset(name, tmp_path)
    assert found.faults and not any(len(split) for split in found.splits.values())


def test_every_name_has_a_layout_under_test() -> None:
    """Each kind of dataset is in LAYOUTS, so that a new one cannot be forgotten."""
    kinds = {type(DATASETS[name]) for name in LAYOUTS if name in DATASETS}
    assert kinds | {type(DATASETS["emoji"])} == {type(spec) for spec in DATASETS.values()}
