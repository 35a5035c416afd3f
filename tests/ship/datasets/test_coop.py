"""CoOp's layout: what loads, and what is said about each kind of fault."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ship.datasets import DATASETS, DatasetError, check_dataset, load_dataset
from ship.datasets.coop import COOP_DATASETS
from tests.ship.datasets.conftest import SPLIT_FILE, save_picture

Edit = Callable[[Callable[[dict[str, Any]], Any]], None]


def faults(root: Path | None, name: str = "caltech101") -> tuple[str, ...]:
    """Check, and return what is complained about."""
    with pytest.raises(DatasetError) as caught:
        check_dataset(name, root)
    return caught.value.faults


def set_row(split: str, index: int, row: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that replaces one row of a split."""

    def change(document: dict[str, Any]) -> None:
        document[split][index] = row

    return change


def test_reads_names_labels_and_pictures(coop_root: Path) -> None:
    """A sound folder gives cleaned names, contiguous labels and pictures that open."""
    check_dataset("caltech101", coop_root)
    dataset = load_dataset("caltech101", coop_root)
    assert dataset.class_names == ("sea horse", "café")
    assert dataset.template.format(dataset.class_names[0]) == "a photo of a sea horse."
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 6,
        "val": 2,
        "test": 4,
    }
    assert dataset.splits["train"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.splits["train"].labels.dtype == np.int64
    assert dataset.splits["test"].pictures[0].open().size == (40, 32)


def test_another_split_than_the_published_one_is_reported(
    coop_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Counts that differ from the published split's are allowed, with a warning."""
    with caplog.at_level(logging.WARNING):
        load_dataset("caltech101", coop_root)
    assert "6/2/4 pictures of 2 classes" in caplog.text
    assert "4128/1649/2465 of 100" in caplog.text


def test_the_fingerprint_follows_content_alone(coop_root: Path, edit_split: Edit) -> None:
    """Dates do not change it; a picture's bytes, a class name and the order of rows do."""
    picture = coop_root / "caltech-101/101_ObjectCategories/sea_horse/0.png"
    seen = [load_dataset("caltech101", coop_root).fingerprint]
    os.utime(picture, (0, 0))
    assert load_dataset("caltech101", coop_root).fingerprint == seen[0]
    save_picture(picture, seed=99)
    seen.append(load_dataset("caltech101", coop_root).fingerprint)
    edit_split(lambda document: document["train"].reverse())
    seen.append(load_dataset("caltech101", coop_root).fingerprint)
    edit_split(lambda d: {k: [[p, y, n.replace("é", "e")] for p, y, n in v] for k, v in d.items()})
    seen.append(load_dataset("caltech101", coop_root).fingerprint)
    assert len(set(seen)) == 4


def test_missing_things_are_named(tmp_path: Path, coop_root: Path) -> None:
    """No root, no such root, no folder and no split file each have a message with the path."""
    assert "needs a data root" in faults(None)[0]
    assert str(tmp_path / "nowhere") in faults(tmp_path / "nowhere")[0]
    assert len(faults(tmp_path, "dtd")) == 2
    (coop_root / "caltech-101" / SPLIT_FILE).unlink()
    assert SPLIT_FILE in faults(coop_root)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_row("train", 0, ["sea_horse/0.png", 5, "sea_horse"]), "labels must be 0 to 2"),
        (set_row("train", 0, ["sea_horse/0.png", 0, "sea lion"]), "label 0 has more than one"),
        (set_row("train", 0, ["sea_horse/0.png", 1, "café"]), None),
        (
            set_row("val", 0, ["sea_horse/3.png", 1, "Sea horse"]),
            "stands for 2 classes: sea_horse (label 0), Sea horse (label 1)",
        ),
        (
            set_row("test", 0, ["../../x.png", 0, "sea_horse"]),
            "outside of the folder: '../../x.png'",
        ),
        (set_row("test", 0, ["/etc/passwd", 0, "sea_horse"]), "outside of the folder"),
        (set_row("test", 0, ["sea_horse", 0, "sea_horse"]), "1 missing picture: sea_horse"),
        (set_row("test", 0, ["sea_horse/0.png", 0, "sea_horse"]), "more than one split"),
        (set_row("train", 0, ["sea_horse/0.png", True, "sea_horse"]), "train[0]"),
        (set_row("train", 0, ["sea_horse/0.png", -1, "sea_horse"]), "train[0]"),
        (set_row("train", 0, ["sea_horse/0.png", 0]), "train[0]"),
        (set_row("train", 0, ["sea_horse/0.png", 0, "_"]), "train[0]"),
        (lambda document: document["train"], "must be an object of train, val, test, is a list"),
        (lambda document: document.pop("val") and None, "val must be a list"),
        (lambda document: document.update(val=[]), "is an empty list"),
        (lambda document: document.update(val=None), "is null"),
    ],
)
def test_faults_of_the_split_file(
    coop_root: Path, edit_split: Edit, change: Callable[[dict[str, Any]], Any], message: str | None
) -> None:
    """Each kind of fault in the split file has its message; a consistent relabelling has none."""
    edit_split(change)
    if message is None:
        check_dataset("caltech101", coop_root)
    else:
        assert message in "\n".join(faults(coop_root))


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe{}", b"[" * 100_000])
def test_a_split_file_that_is_not_json(coop_root: Path, content: bytes) -> None:
    """Broken JSON, wrong encoding and absurd nesting are one line with the file's name."""
    (coop_root / "caltech-101" / SPLIT_FILE).write_bytes(content)
    (fault,) = faults(coop_root)
    assert SPLIT_FILE in fault
    assert "\n" not in fault


def test_all_faults_come_at_once(coop_root: Path, edit_split: Edit) -> None:
    """A missing picture, an empty one and two names for a label are all in one error."""
    images = coop_root / "caltech-101/101_ObjectCategories"
    (images / "sea_horse/0.png").unlink()
    (images / "café/6.png").write_bytes(b"")
    edit_split(set_row("train", 1, ["sea_horse/1.png", 0, "sea lion"]))
    text = "\n".join(faults(coop_root))
    assert "1 missing picture: sea_horse/0.png" in text
    assert "1 picture of zero bytes: café/6.png" in text
    assert "label 0 has more than one class name" in text


def test_five_missing_pictures_are_shown_and_the_rest_counted(coop_root: Path) -> None:
    """Twelve missing pictures do not flood the terminal."""
    for path in (coop_root / "caltech-101/101_ObjectCategories").rglob("*.png"):
        path.unlink()
    (fault,) = faults(coop_root)
    assert "12 missing pictures" in fault
    assert fault.endswith("and 7 more")


def test_an_unknown_name_lists_the_choices() -> None:
    """A typing mistake shows every dataset that there is."""
    (fault,) = faults(None, "caltech")
    assert "'caltech'" in fault
    assert all(name in fault for name in [*DATASETS, "image_folder:NAME"])


def test_every_template_takes_one_name() -> None:
    """Templates have one {} and split files are CoOp's."""
    for spec in COOP_DATASETS.values():
        assert spec.template.format("X").count("X") == 1
        assert spec.split_file.startswith("split_zhou_")


@pytest.mark.data
def test_caltech101_as_published(caplog: pytest.LogCaptureFixture) -> None:
    """The real folder loads with the published counts and without a warning."""
    if "SHIP_DATA_ROOT" not in os.environ:
        pytest.skip("SHIP_DATA_ROOT is not set")
    dataset = load_dataset("caltech101", Path(os.environ["SHIP_DATA_ROOT"]))
    spec = COOP_DATASETS["caltech101"]
    assert tuple(len(split) for split in dataset.splits.values()) == spec.counts
    assert len(dataset.class_names) == spec.classes
    assert json.dumps(dataset.class_names[:3]) == '["face", "leopard", "motorbike"]'
    assert not caplog.records
