"""The xlsa17 layout: official seen and unseen classes."""

from pathlib import Path

import numpy as np
import pytest

from ship.datasets import load_dataset
from tests.case_files import load_cases
from tests.ship.datasets.conftest import save_image
from tests.ship.datasets.trees import LAYOUTS, XLSA, mats

CLASSES = load_cases(__file__, "classes.yaml")["xlsa17"]
FOLDER = "xlsa17/data/AWA2"
IMAGES = "Animals_with_Attributes2/JPEGImages"
_, _, NAMES, FOLDERS, PREFIX = XLSA["awa2"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a sound awa2."""
    LAYOUTS["awa2"](tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", CLASSES)
def test_seen_classes_come_first(tmp_path: Path, name: str) -> None:
    """Labels follow sorted seen names, then unseen ones; images keep their class."""
    expected, first = CLASSES[name]
    LAYOUTS[name](tmp_path)
    dataset = load_dataset(name, tmp_path)
    assert list(dataset.class_names) == expected
    assert dataset.n_seen == 2
    assert {split: result.labels.tolist() for split, result in dataset.splits.items()} == {
        "train": [first] * 3 + [1 - first] * 3,
        "val": [first, 1 - first],
        "test": [first, 1 - first, 2, 2],
    }
    # images of the files' class 2, the unseen one, are called image_2...
    unseen = [p.name for p in dataset.splits["test"].images if "image_2" in p.name]
    assert unseen == [p.name for p in dataset.splits["test"].images[2:]]


def test_xlsa_val_is_a_tenth_of_each_class(root: Path) -> None:
    """30 images give 3, 4 give one, and a single one gives none."""
    result = mats(NAMES, FOLDERS, PREFIX)
    result.image_files += [f"{PREFIX}zebra/more{i}.jpg" for i in range(26)]
    result.labels += [1] * 26
    result.trainval_loc += list(range(13, 39))
    for i in range(26):
        save_image(root / IMAGES / f"zebra/more{i}.jpg", i)
    result.save(root / FOLDER)
    before = load_dataset("awa2", root)
    zebra = before.class_names.index("zebra")
    assert np.bincount(before.splits["val"].labels).tolist() == [1, 3]
    result.trainval_loc = [
        i for i in result.trainval_loc if i not in (9, 10, 11)
    ]  # one grizzly bear left
    result.save(root / FOLDER)
    after = load_dataset("awa2", root)
    assert np.bincount(after.splits["val"].labels, minlength=2).tolist() == [0, 3]
    held_out = [
        [p.name for p, y in zip(s.images, s.labels, strict=True) if y == zebra]
        for s in (before.splits["val"], after.splits["val"])
    ]
    assert held_out[0] == held_out[1]


def test_split_version_distinguishes_splits(root: Path) -> None:
    """Counts and hash change with the split, not with the order of the lists."""
    before = load_dataset("awa2", root)
    assert before.split_version.startswith("trainval 8, test_seen 2, test_unseen 2, sha256 ")
    result = mats(NAMES, FOLDERS, PREFIX)
    result.trainval_loc = result.trainval_loc[::-1]
    result.save(root / FOLDER)
    again = load_dataset("awa2", root)
    assert (again.split_version, again.fingerprint) == (before.split_version, before.fingerprint)
    result.trainval_loc, result.test_seen_loc = [5, 12, 9, 10], [1, 2, 3, 4, 8, 11]
    result.save(root / FOLDER)
    other = load_dataset("awa2", root)
    assert other.split_version.startswith("trainval 4, test_seen 6, test_unseen 2, sha256 ")
    assert other.fingerprint != before.fingerprint
