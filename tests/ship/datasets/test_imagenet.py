"""ImageNet's fixed parts, and the sets that are targets alone."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ship.datasets import DatasetError, check_dataset, load_dataset, survey_dataset
from ship.datasets.imagenet import ImageNetDataset
from tests.ship.datasets.conftest import save_picture
from tests.ship.datasets.trees import LAYOUTS, WNIDS, class_names, imagenet_tree

A, B, C = WNIDS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a sound imagenet/."""
    imagenet_tree(tmp_path)
    return tmp_path


def faults(root: Path, name: str = "imagenet") -> tuple[str, ...]:
    """Check, and return what is complained about."""
    with pytest.raises(DatasetError) as caught:
        check_dataset(name, root)
    return caught.value.faults


def sizes(n: int) -> tuple[int, int]:
    """Train and val pictures of a class that has n."""
    paths = [f"train/{A}/{i}.JPEG" for i in range(n)]
    train, val = ImageNetDataset()._part(paths)
    assert len({*train, *val}) == len(train) + len(val) <= n
    return len(train), len(val)


def test_of_a_class_64_and_10_are_used() -> None:
    """Full classes give 64 and 10; a smaller one gives a fifth to val and the rest to train."""
    assert sizes(1300) == sizes(74) == (64, 10)
    assert sizes(73) == (63, 10)
    assert sizes(50) == (40, 10)
    assert sizes(10) == (8, 2)
    assert sizes(2) == (1, 1)
    assert sizes(1) == (1, 0)


def test_the_choice_depends_on_paths_alone() -> None:
    """The order of listing does not matter, and more train pictures leave the first as they are."""
    paths = [f"train/{A}/{i}.JPEG" for i in range(100)]
    few = ImageNetDataset(train_per_class=8, val_per_class=4)._part(paths)
    assert few == ImageNetDataset(train_per_class=8, val_per_class=4)._part(paths[::-1])
    assert ImageNetDataset()._part(paths)[0][:8] == few[0]


def test_labels_are_the_lines_of_the_class_names(root: Path) -> None:
    """Test pictures are those of images/val; labels follow classnames.txt, not the wnids."""
    class_names(root / "imagenet", {wnid: WNIDS[wnid] for wnid in (C, A, B)})
    dataset = load_dataset("imagenet", root)
    assert dataset.class_names == ("kit fox", "tench", "café")
    assert [len(split) for split in dataset.splits.values()] == [12, 6, 6]
    for split in dataset.splits.values():
        for picture, label in zip(split.pictures, split.labels.tolist(), strict=True):
            assert picture.name.split("/")[1] == (C, A, B)[label]
    assert all(p.name.startswith("val/") for p in dataset.splits["test"].pictures)
    assert all(p.name.startswith("train/") for p in dataset.splits["val"].pictures)


def test_the_fingerprint_is_of_paths_and_sizes(root: Path) -> None:
    """Other bytes of the same number and other dates go unnoticed; an unused picture, too."""
    before = load_dataset("imagenet", root).fingerprint
    path = load_dataset("imagenet", root).splits["train"].pictures[0].source
    assert isinstance(path, Path)
    content = path.read_bytes()
    path.write_bytes(b"x" * len(content))
    os.utime(path, (0, 0))
    assert load_dataset("imagenet", root).fingerprint == before
    path.write_bytes(content[:-1])
    assert load_dataset("imagenet", root).fingerprint != before
    path.write_bytes(content)
    path.rename(path.with_name("other.JPEG"))
    assert load_dataset("imagenet", root).fingerprint != before


def test_two_wnids_may_have_one_name(root: Path) -> None:
    """CLIP's list has two names twice: they stay, and are noted."""
    class_names(root / "imagenet", {A: "sunglasses", B: "sunglasses", C: "fox"})
    assert load_dataset("imagenet", root).class_names == ("sunglasses", "sunglasses", "fox")
    (note,) = survey_dataset("imagenet", root).notes
    assert note.endswith("kept as published: sunglasses")


@pytest.mark.parametrize(
    ("name", "expected", "first"),
    [
        ("imagenetv2", ("tench", "café", "kit fox"), "0/0.jpg"),
        ("imagenet_sketch", ("tench", "café", "kit fox"), f"{A}/0.jpg"),
        ("imagenet_a", ("café", "kit fox"), f"{B}/0.jpg"),
        ("imagenet_r", ("tench", "café"), f"{A}/0.jpg"),
    ],
)
def test_targets_have_test_pictures_alone(
    tmp_path: Path, name: str, expected: tuple[str, ...], first: str
) -> None:
    """Train and val are empty; A and R know only the classes that are there."""
    LAYOUTS[name](tmp_path)
    dataset = load_dataset(name, tmp_path)
    assert dataset.class_names == expected
    assert [len(split) for split in dataset.splits.values()] == [0, 0, 2 * len(expected)]
    assert dataset.splits["test"].pictures[0].name == first
    assert dataset.splits["test"].labels.tolist() == [i // 2 for i in range(2 * len(expected))]


def test_targets_may_use_imagenets_class_names(tmp_path: Path) -> None:
    """Without a classnames.txt of their own they take the one in imagenet/."""
    LAYOUTS["imagenet_r"](tmp_path)
    (tmp_path / "imagenet").mkdir()
    own = tmp_path / "imagenet-rendition/classnames.txt"
    own.rename(tmp_path / "imagenet/classnames.txt")
    assert load_dataset("imagenet_r", tmp_path).class_names == ("tench", "café")
    (tmp_path / "imagenet/classnames.txt").unlink()
    assert str(own) in faults(tmp_path, "imagenet_r")[0]


def rewrite(text: str) -> Callable[[Path], object]:
    """An edit that replaces classnames.txt."""
    return lambda root: (root / "imagenet/classnames.txt").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rewrite("tench\n"), "must be '<wnid> <class name>' lines: 'tench'"),
        (rewrite("../../etc x\n"), "must be '<wnid> <class name>' lines: '../../etc x'"),
        (rewrite(f"{A} x\n{A} y\n{B} z\n{C} w\n"), f"wnids on more than one line: {A}"),
        (rewrite(f"{A} _\n{B} z\n{C} w\n"), f"no class name for {A}"),
        (rewrite(""), "at least 2 classes, names 0"),
        (rewrite(f"{A} x\n{B} y\n"), f"1 folder not named by classnames.txt: {C}"),
        (rewrite(f"{A} x\n{B} y\n{C} z\nn00000001 w\n"), "1 class without a folder: n00000001"),
    ],
)
def test_faults_of_the_class_names(
    root: Path, change: Callable[[Path], object], message: str
) -> None:
    """Each kind of fault in classnames.txt, or against the folders, has its message."""
    change(root)
    assert message in "\n".join(faults(root))


def test_all_faults_come_at_once(root: Path) -> None:
    """A folder without pictures, a strange one and an empty picture are in one error."""
    for path in (root / "imagenet/images/train" / A).iterdir():
        path.unlink()
    save_picture(root / "imagenet/images/val/n99999999/0.JPEG")
    (root / "imagenet/images/val" / B / f"{B}_0.JPEG").write_bytes(b"")
    text = "\n".join(faults(root))
    assert f"1 class folder without pictures: {A}" in text
    assert "1 folder not named by classnames.txt: n99999999" in text
    assert f"1 picture of zero bytes: val/{B}/{B}_0.JPEG" in text
