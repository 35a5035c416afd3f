"""What holds for every layout: sound trees load, spoilt ones are named, whatever the layout."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from ship.datasets import (
    DATASETS,
    SPLITS,
    DatasetError,
    PictureDataset,
    check_dataset,
    load_dataset,
    survey_dataset,
)
from tests.ship.datasets.trees import LAYOUTS


@pytest.fixture(params=LAYOUTS)
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A dataset of each layout, whose tree lies in tmp_path."""
    LAYOUTS[request.param](tmp_path)
    return request.param


def faults(name: str, root: Path | None) -> str:
    """Check, and return what is complained about."""
    with pytest.raises(DatasetError) as caught:
        check_dataset(name, root)
    return str(caught.value)


def first_tested(dataset: PictureDataset) -> Path:
    """The first test picture's file."""
    source = dataset.splits["test"].pictures[0].source
    assert isinstance(source, Path)
    return source


def test_a_sound_tree_loads(name: str, tmp_path: Path) -> None:
    """Labels fit the names, no picture is in two splits, and all of them open."""
    check_dataset(name, tmp_path)
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


def test_names_keep_their_accents(name: str, tmp_path: Path) -> None:
    """A class name that is not ASCII comes out as it was written, in composed characters."""
    names = load_dataset(name, tmp_path).class_names
    assert any("café" in found.lower() for found in names)


def test_a_set_of_another_size_is_reported(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where counts are published, a set that differs from them loads with a warning."""
    with caplog.at_level(logging.WARNING):
        load_dataset(name, tmp_path)
    spec = DATASETS.get(name)
    assert ("cannot be compared with published" in caplog.text) == (spec is not None)
    if spec is not None:
        assert f" of {spec.classes}: " in caplog.text


def test_the_fingerprint_follows_the_content(name: str, tmp_path: Path) -> None:
    """A moved tree keeps its fingerprint; a picture of other content has another."""
    before = load_dataset(name, tmp_path)
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    shutil.copytree(tmp_path, moved)
    assert load_dataset(name, moved).fingerprint == before.fingerprint
    with first_tested(load_dataset(name, moved)).open("ab") as file:
        file.write(b"x")
    assert load_dataset(name, moved).fingerprint != before.fingerprint


def test_an_empty_picture_is_named(name: str, tmp_path: Path) -> None:
    """A file of zero bytes is found without decoding."""
    path = first_tested(load_dataset(name, tmp_path))
    path.write_bytes(b"")
    text = faults(name, tmp_path)
    assert "1 picture of zero bytes" in text
    assert path.name in text


def test_an_absent_picture_is_named(name: str, tmp_path: Path) -> None:
    """A picture that a list names, or a link to nothing, is missing by name."""
    path = first_tested(load_dataset(name, tmp_path))
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    text = faults(name, tmp_path)
    assert "1 missing picture" in text
    assert path.name in text


def test_a_tree_of_another_layout_is_refused(name: str, tmp_path: Path) -> None:
    """A data root where the dataset's folders are called otherwise says what was looked for."""
    (tmp_path / "other").mkdir()
    assert str(tmp_path / "other") in faults(name, tmp_path / "other")
    assert "needs a data root" in faults(name, None)
    if name in DATASETS:
        assert str(tmp_path / "nowhere") in faults(name, tmp_path / "nowhere")


def test_empty_folders_are_refused(name: str, tmp_path: Path) -> None:
    """Folders without a single file are faults, not an empty dataset."""
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()
    assert faults(name, tmp_path)
    assert not any(len(s) for s in survey_dataset(name, tmp_path).splits.values())


def test_every_name_has_a_layout_under_test() -> None:
    """Each kind of dataset is in LAYOUTS, so that a new one cannot be forgotten."""
    kinds = {type(DATASETS[name]) for name in LAYOUTS if name in DATASETS}
    assert kinds | {type(DATASETS["emoji"])} == {type(spec) for spec in DATASETS.values()}
