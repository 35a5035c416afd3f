"""The xlsa17 layout: official seen and unseen classes, and files that are not to be trusted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ship.datasets import DatasetError, check_dataset, load_dataset
from ship.datasets.xlsa import XLSA_DATASETS, xlsa_class_name
from tests.ship.datasets.conftest import save_picture
from tests.ship.datasets.trees import LAYOUTS, XLSA, Mats, mats

FOLDER = "xlsa17/data/AWA2"
IMAGES = "Animals_with_Attributes2/JPEGImages"
_, _, NAMES, FOLDERS, PREFIX = XLSA["awa2"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a sound awa2."""
    LAYOUTS["awa2"](tmp_path)
    return tmp_path


def sound() -> Mats:
    """What the files of that root hold."""
    return mats(NAMES, FOLDERS, PREFIX)


def faults(root: Path, name: str = "awa2") -> tuple[str, ...]:
    """Check, and return what is complained about."""
    with pytest.raises(DatasetError) as caught:
        check_dataset(name, root)
    return caught.value.faults


@pytest.mark.parametrize(
    ("name", "expected", "first"),
    [
        ("awa2", ("grizzly bear", "zebra", "café bat"), 1),
        ("cub", ("Auklet", "Sooty Albatross", "Café Bird"), 1),
        ("sun_attributes", ("abbey", "airport terminal", "bazaar café"), 0),
        ("flo", ("lily", "rose", "café"), 1),
    ],
)
def test_seen_classes_come_first(
    tmp_path: Path, name: str, expected: tuple[str, ...], first: int
) -> None:
    """Labels follow the seen names sorted, then the unseen; each picture keeps its class."""
    LAYOUTS[name](tmp_path)
    dataset = load_dataset(name, tmp_path)
    assert dataset.class_names == expected
    assert dataset.n_seen == 2
    assert {split: found.labels.tolist() for split, found in dataset.splits.items()} == {
        "train": [first] * 3 + [1 - first] * 3,
        "val": [first, 1 - first],
        "test": [first, 1 - first, 2, 2],
    }
    # pictures of the files' class 2, the unseen one, are called image_2...
    unseen = [p.name for p in dataset.splits["test"].pictures if "image_2" in p.name]
    assert unseen == [p.name for p in dataset.splits["test"].pictures[2:]]


def test_val_is_a_tenth_of_each_class(root: Path) -> None:
    """30 pictures give 3, 4 give one, a single one none; other classes do not matter."""
    found = sound()
    found.image_files += [f"{PREFIX}zebra/more{i}.jpg" for i in range(26)]
    found.labels += [1] * 26
    found.trainval_loc += list(range(13, 39))
    last = found.trainval_loc
    for i in range(26):
        save_picture(root / IMAGES / f"zebra/more{i}.jpg", i)
    found.save(root / FOLDER)
    before = load_dataset("awa2", root)
    zebra = before.class_names.index("zebra")
    assert np.bincount(before.splits["val"].labels).tolist() == [1, 3]
    found.trainval_loc = [i for i in last if i not in (9, 10, 11)]  # one grizzly bear left
    found.save(root / FOLDER)
    after = load_dataset("awa2", root)
    assert np.bincount(after.splits["val"].labels, minlength=2).tolist() == [0, 3]
    held_out = [
        [p.name for p, y in zip(s.pictures, s.labels, strict=True) if y == zebra]
        for s in (before.splits["val"], after.splits["val"])
    ]
    assert held_out[0] == held_out[1]


def test_the_split_version_tells_splits_apart(root: Path) -> None:
    """Counts and a hash that another split changes, and another order of the lists does not."""
    before = load_dataset("awa2", root)
    assert before.split_version.startswith("trainval 8, test_seen 2, test_unseen 2, sha256 ")
    found = sound()
    found.trainval_loc = found.trainval_loc[::-1]
    found.save(root / FOLDER)
    again = load_dataset("awa2", root)
    assert (again.split_version, again.fingerprint) == (before.split_version, before.fingerprint)
    found.trainval_loc, found.test_seen_loc = [5, 12, 9, 10], [1, 2, 3, 4, 8, 11]
    found.save(root / FOLDER)
    other = load_dataset("awa2", root)
    assert other.split_version.startswith("trainval 4, test_seen 6, test_unseen 2, sha256 ")
    assert other.fingerprint != before.fingerprint


def test_the_split_of_seen_classes_is_in_the_fingerprint(root: Path) -> None:
    """The same pictures and labels under another number of seen classes are another dataset."""
    from ship.datasets.content import content_fingerprint, picture_hashes

    dataset = load_dataset("awa2", root)
    splits = dataset.splits
    parts = (dataset.class_names, dataset.template, splits, picture_hashes(splits))
    assert content_fingerprint(*parts, 2) == dataset.fingerprint
    assert len({content_fingerprint(*parts, n) for n in (None, 1, 2)}) == 3


def test_class_names_become_words() -> None:
    """Plus signs, underscores, numbers in front and SUN's letters go; other digits stay."""
    assert xlsa_class_name("grizzly+bear") == "grizzly bear"
    assert xlsa_class_name("001.Black_footed_Albatross") == "Black footed Albatross"
    assert xlsa_class_name("a/abbey") == "abbey"
    assert xlsa_class_name("b/bazaar/indoor") == "bazaar indoor"
    assert xlsa_class_name("7_up 2.0") == "7 up 2.0"


def test_published_counts() -> None:
    """Seen classes are fewer than all, and names that files lack have a place to come from."""
    for spec in XLSA_DATASETS.values():
        assert 0 < spec.n_seen < spec.classes
    assert XLSA_DATASETS["awa2"].counts == (23527, 5882, 7913)


def put(name: str, value: Any) -> Callable[[Mats], None]:
    """An edit that replaces one of the variables."""
    return lambda found: setattr(found, name, value)


def put_file(index: int, path: str) -> Callable[[Mats], None]:
    """An edit that replaces one of the picture paths."""
    return lambda found: found.image_files.__setitem__(index, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put_file(0, f"{PREFIX}../../../x.jpg"), "outside of the folder: '../../../x.jpg'"),
        (put_file(0, f"{PREFIX}zebra/absent.jpg"), "1 missing picture: zebra/absent.jpg"),
        (put_file(0, "/data/elsewhere/x.jpg"), "outside of a folder 'JPEGImages': /data/elsewhere"),
        (put_file(0, f"{PREFIX}zebra/image_14.jpg"), "more than one split: zebra/image_14.jpg"),
        (put_file(0, f"{PREFIX}grizzly+bear/image_30.jpg"), "under two labels: grizzly+bear/image"),
        (put_file(0, ""), "image_files must be a cell array of texts: image_files[1]"),
        (put("image_files", ["x.jpg"]), "1 image_files but 12 labels"),
        (put("labels", [[1.0, 2.0], [3.0, 4.0]] * 3), "must be a vector of numbers"),
        (put("labels", np.ones((3, 4))), "labels must be a vector of numbers, is an array of 3/4"),
        (put("labels", np.array(["a"] * 12)), "labels must be a vector of numbers"),
        (put("labels", [0.0] + [1.0] * 11), "labels must be whole numbers of 1 and up, holds 0"),
        (put("labels", [float("nan")] * 12), "whole numbers of 1 and up, holds nan, nan"),
        (put("labels", [1e300] * 12), "whole numbers of 1 and up, holds 1e+300"),
        (put("labels", [9.0] * 12), "names 3 classes, but labels go up to 9"),
        (put("test_seen_loc", [5, 13]), "test_seen_loc must be whole numbers of 1 to 12, holds 13"),
        (put("test_seen_loc", [5, 1.5]), "test_seen_loc must be whole numbers of 1 to 12"),
        (put("test_seen_loc", np.zeros((0, 0))), "test_seen_loc must be a vector of numbers"),
        (put("test_seen_loc", [5, 5]), "test_seen_loc has pictures more than once: 5"),
        (put("test_seen_loc", [5, 6]), "pictures both in test_seen_loc and test_unseen_loc: 6"),
        (put("test_unseen_loc", [6, 7, 5]), "both in test_seen_loc and test_unseen_loc: 5"),
        (put("test_unseen_loc", [7, 12]), "both in test_seen_loc and test_unseen_loc: 12"),
        (
            put("trainval_loc", [1, 2, 3, 4]),
            "classes of test_seen_loc that trainval_loc lacks: gri",
        ),
        (put("trainval_loc", [1, 2, 6, 8]), "both in trainval_loc and test_unseen_loc: 6"),
        (put("names", ["zebra", "a_b", "a+b"]), "'a b', as CLIP reads it, stands for 2 classes"),
        (put("names", ["zebra", "bat"]), "names 2 classes, but labels go up to 3"),
        (put("names", [*(NAMES or []), "ghost"]), "classes without pictures: ghost"),
        (put("names", None), "has no allclasses_names"),
    ],
)
def test_faults_of_the_files(root: Path, change: Callable[[Mats], None], message: str) -> None:
    """Each kind of fault is named, and nothing of such a file is believed."""
    found = sound()
    change(found)
    found.save(root / FOLDER)
    text = "\n".join(faults(root))
    assert message in text
    assert str(root / FOLDER) in text


def test_a_class_may_not_be_seen_and_unseen(root: Path) -> None:
    """A zebra among the unseen pictures gives the split away."""
    found = sound()
    found.labels[6] = 1
    found.save(root / FOLDER)
    assert "classes both seen and unseen: zebra" in "\n".join(faults(root))


@pytest.mark.parametrize("file", ["res101.mat", "att_splits.mat"])
@pytest.mark.parametrize("content", [b"", b"x" * 50, b"MATLAB" + b"\xff" * 500, "cut", None])
def test_broken_files_are_one_line(root: Path, file: str, content: Any) -> None:
    """Truncated, foreign and absent files are named without a traceback."""
    path = root / FOLDER / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:300] if content == "cut" else content)
    (fault,) = faults(root)
    assert str(path) in fault
    assert "\n" not in fault


def test_all_faults_come_at_once(root: Path) -> None:
    """What is wrong in one file does not hide what is wrong in the other."""
    found = sound()
    found.labels[0] = 0
    found.test_seen_loc = [5, 5]
    found.names = ["zebra", "a_b", "a+b"]
    found.save(root / FOLDER)
    assert len(faults(root)) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "att_splits.mat has no names"),
        ("[", "is not JSON"),
        ('["rose"]', "must be an object of class names by the numbers"),
        ('{"1": "rose", "3": "lily"}', "must be an object of class names by the numbers"),
        ('{"1": "rose", "2": "lily"}', "names 2 classes, but labels go up to 3"),
        ('{"1": "a b", "2": "a_b", "3": "c"}', "'a b', as CLIP reads it, stands for 2 classes"),
    ],
)
def test_faults_of_the_flowers_names(tmp_path: Path, content: str | None, message: str) -> None:
    """FLO's files have no class names: they come from CoOp's cat_to_name.json, or it is said."""
    LAYOUTS["flo"](tmp_path)
    path = tmp_path / "oxford_flowers/cat_to_name.json"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    (fault,) = faults(tmp_path, "flo")
    assert message in fault
    assert str(path) in fault
