"""FGVC-Aircraft's official lists."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ship.datasets import DatasetError, check_dataset, load_dataset
from tests.ship.datasets.trees import aircraft_tree

FOLDER = "fgvc_aircraft"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a sound fgvc_aircraft/."""
    aircraft_tree(tmp_path)
    return tmp_path


def faults(root: Path) -> tuple[str, ...]:
    """Check, and return what is complained about."""
    with pytest.raises(DatasetError) as caught:
        check_dataset("fgvc_aircraft", root)
    return caught.value.faults


def add(file: str, line: str, **options: str) -> Callable[[Path], None]:
    """An edit that appends a line to one of the lists."""

    def change(root: Path) -> None:
        path = root / FOLDER / file
        text = path.read_text(encoding="utf-8")
        path.write_text(f"{text}{line}\n", encoding=options.get("encoding", "utf-8"))

    return change


def test_labels_are_the_lines_of_variants(root: Path) -> None:
    """As in CoOp: not sorted, in the order of the file; a variant's name may hold spaces."""
    path = root / FOLDER / "variants.txt"
    path.write_text("Yak-42\nA300B4\nCafé 400\n", encoding="utf-8")
    dataset = load_dataset("fgvc_aircraft", root)
    assert dataset.class_names == ("Yak-42", "A300B4", "Café 400")
    assert dataset.splits["train"].labels.tolist() == [1, 1, 2, 2, 0, 0]
    assert [len(split) for split in dataset.splits.values()] == [6, 3, 3]
    assert dataset.template == "a photo of a {}, a type of aircraft."


def test_the_archives_own_folder_will_do(root: Path, tmp_path: Path) -> None:
    """The official data/ folder below fgvc_aircraft/ is the same dataset."""
    other = tmp_path.with_name("archive")
    aircraft_tree(other, f"{FOLDER}/data")
    here = load_dataset("fgvc_aircraft", root)
    assert load_dataset("fgvc_aircraft", other).fingerprint == here.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add("images_variant_val.txt", "0000000 Concorde"), "'0000000 Concorde'"),
        (add("images_variant_val.txt", "0000000"), "must be '<id> <variant of variants.txt>'"),
        (add("images_variant_val.txt", "0000000 A300B4"), "more than one split: 0000000.jpg"),
        (add("images_variant_train.txt", "0000000 Yak-42"), "under two labels: 0000000.jpg"),
        (add("images_variant_val.txt", "9999999 Yak-42"), "1 missing picture: 9999999.jpg"),
        (add("images_variant_val.txt", "../../x Yak-42"), "outside of the folder: '../../x.jpg'"),
        (add("images_variant_val.txt", "/etc/x Yak-42"), "outside of the folder: '/etc/x.jpg'"),
        (add("variants.txt", "Café_400"), "'Café 400', as CLIP reads it, stands for 2 classes"),
        (add("variants.txt", "_"), "class name '', as CLIP reads it, stands for 1 class"),
        (add("images_variant_test.txt", "é", encoding="latin-1"), "is not UTF-8 text"),
        (lambda root: (root / FOLDER / "variants.txt").write_text(""), "at least 2 variants"),
        (lambda root: (root / FOLDER / "variants.txt").unlink(), "no such list: "),
        (lambda root: (root / FOLDER / "images_variant_val.txt").unlink(), "no such list: "),
        (lambda root: (root / FOLDER / "images_variant_val.txt").write_text(""), "is empty"),
    ],
)
def test_faults_of_the_lists(root: Path, change: Callable[[Path], None], message: str) -> None:
    """Each kind of fault is one line with the file or folder in it."""
    change(root)
    (fault,) = faults(root)
    assert message in fault
    assert str(root / FOLDER) in fault


def test_all_faults_come_at_once(root: Path) -> None:
    """A strange variant, an absent list and a picture of zero bytes are in one error."""
    add("images_variant_test.txt", "0000000 Concorde")(root)
    (root / FOLDER / "images_variant_val.txt").unlink()
    (root / FOLDER / "images/0000000.jpg").write_bytes(b"")
    assert len(faults(root)) == 3
