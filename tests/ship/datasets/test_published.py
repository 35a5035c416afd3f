"""What sound trees become: CoOp's split files, FGVC-Aircraft's lists, ImageNet's folders.

And what holds for every layout.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ship.datasets import DATASETS, PUBLISHED, SPLITS, load_dataset
from ship.datasets.folders import select_images
from tests.ship.datasets.conftest import SPLIT_FILE
from tests.ship.datasets.trees import LAYOUTS, WNIDS, aircraft_tree, class_names, imagenet_tree
from tests.told import told

A, B, C = WNIDS
TARGETS = told(__file__, "classes.yaml")["targets"]


def test_coops_names_labels_and_template(coop_root: Path) -> None:
    """Names are cleaned, labels are the split file's."""
    dataset = load_dataset("caltech101", coop_root)
    assert dataset.class_names == ("sea horse", "café")
    assert dataset.template.format(dataset.class_names[0]) == "a photo of a sea horse."
    assert [len(split) for split in dataset.splits.values()] == [6, 2, 4]
    assert dataset.splits["train"].labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_fingerprint_follows_the_order_of_rows(coop_root: Path) -> None:
    """Features are kept by it, and they are a row for each image; a class name is in it, too."""
    split_file = coop_root / "caltech-101" / SPLIT_FILE
    document = json.loads(split_file.read_text(encoding="utf-8"))
    document["train"].reverse()
    turned = json.dumps(document)
    seen = {load_dataset("caltech101", coop_root).fingerprint}
    for text in (turned, turned.replace('"sea_horse"', '"sea_lion"')):
        split_file.write_text(text)
        seen.add(load_dataset("caltech101", coop_root).fingerprint)
    assert len(seen) == 3


def test_aircrafts_labels_are_the_lines_of_variants(tmp_path: Path) -> None:
    """As in CoOp: not sorted, in the order of the file; a variant's name may hold spaces."""
    aircraft_tree(tmp_path)
    variants = tmp_path / "fgvc_aircraft" / "variants.txt"
    variants.write_text("Yak-42\nA300B4\nCafé 400\n", encoding="utf-8")
    dataset = load_dataset("fgvc_aircraft", tmp_path)
    assert dataset.class_names == ("Yak-42", "A300B4", "Café 400")
    assert dataset.splits["train"].labels.tolist() == [1, 1, 2, 2, 0, 0]
    assert [len(split) for split in dataset.splits.values()] == [6, 3, 3]
    assert dataset.template == "a photo of a {}, a type of aircraft."


@pytest.mark.parametrize(
    ("n", "train", "val"),
    [
        (1300, 64, 10), (74, 64, 10), (73, 63, 10), (50, 40, 10), (10, 8, 2), (2, 1, 1), (1, 1, 0),
    ],
)  # fmt: skip
def test_of_an_imagenet_class_64_and_10_are_used(n: int, train: int, val: int) -> None:
    """A smaller one gives a fifth to val and the rest to train; none is in both.

    The order of listing does not matter.
    """
    paths = [f"train/{A}/{i}.JPEG" for i in range(n)]
    parts = select_images(paths)
    assert {split: len(part) for split, part in parts.items()} == {"train": train, "val": val}
    assert len({*parts["train"], *parts["val"]}) == train + val
    assert select_images(paths[::-1]) == parts


def test_imagenets_labels_are_the_lines_of_the_class_names(tmp_path: Path) -> None:
    """Test images are those of images/val; labels follow classnames.txt, not the wnids."""
    imagenet_tree(tmp_path)
    class_names(tmp_path / "imagenet", {wnid: WNIDS[wnid] for wnid in (C, A, B)})
    dataset = load_dataset("imagenet", tmp_path)
    assert dataset.class_names == ("kit fox", "tench", "café")
    assert [len(split) for split in dataset.splits.values()] == [12, 6, 6]
    for name, split in dataset.splits.items():
        for image, label in zip(split.images, split.labels.tolist(), strict=True):
            part, wnid, _ = image.name.split("/")
            assert (part, wnid) == ("val" if name == "test" else "train", (C, A, B)[label])


def test_imagenets_fingerprint_is_of_paths_and_sizes(tmp_path: Path) -> None:
    """Other bytes of the same number and other dates go unnoticed; a size and a name do not."""
    imagenet_tree(tmp_path)
    before = load_dataset("imagenet", tmp_path)
    path = before.splits["train"].images[0].source
    assert isinstance(path, Path)
    content = path.read_bytes()
    path.write_bytes(b"x" * len(content))
    os.utime(path, (0, 0))
    assert load_dataset("imagenet", tmp_path).fingerprint == before.fingerprint
    path.write_bytes(content[:-1])
    assert load_dataset("imagenet", tmp_path).fingerprint != before.fingerprint
    path.write_bytes(content)
    path.rename(path.with_name("other.JPEG"))
    assert load_dataset("imagenet", tmp_path).fingerprint != before.fingerprint


@pytest.mark.parametrize("name", TARGETS)
def test_targets_have_test_images_alone(tmp_path: Path, name: str) -> None:
    """A and R know only the classes that are there; imagenet/ may have the names for all."""
    expected, first = TARGETS[name]
    LAYOUTS[name](tmp_path)
    (own,) = tmp_path.glob("*/classnames.txt")
    (tmp_path / "imagenet").mkdir()
    for _ in range(2):
        dataset = load_dataset(name, tmp_path)
        assert list(dataset.class_names) == expected
        assert [len(split) for split in dataset.splits.values()] == [0, 0, 2 * len(expected)]
        assert dataset.splits["test"].images[0].name == first
        assert dataset.splits["test"].labels.tolist() == [i // 2 for i in range(2 * len(expected))]
        if own.exists():
            own.rename(tmp_path / "imagenet/classnames.txt")


@pytest.mark.data
def test_caltech101_as_published(caplog: pytest.LogCaptureFixture) -> None:
    """The real folder loads with the published counts and without a warning."""
    if "SHIP_DATA_ROOT" not in os.environ:
        pytest.skip("SHIP_DATA_ROOT is not set")
    dataset = load_dataset("caltech101", Path(os.environ["SHIP_DATA_ROOT"]))
    spec = PUBLISHED["caltech101"]
    assert tuple(len(split) for split in dataset.splits.values()) == spec.counts
    assert dataset.class_names[:3] == ("face", "leopard", "motorbike")
    assert len(dataset.class_names) == spec.classes and not caplog.records


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_sound_tree_loads(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Labels fit the names, which keep their accents; none is in two splits, and they open.

    Where counts are published, a set that differs from them loads with a warning. A moved tree
    keeps its fingerprint, whatever its dates are; one with an image of other content has another.
    """
    LAYOUTS[name](tmp_path)
    dataset = load_dataset(name, tmp_path)
    assert dataset.name == name
    assert dataset.template.format("X").count("X") == 1
    assert list(dataset.splits) == list(SPLITS)
    assert set(dataset.splits["test"].labels.tolist()) == set(range(len(dataset.class_names)))
    images = [p for split in dataset.splits.values() for p in split.images]
    assert len({image.name for image in images}) == len(images)
    for split in dataset.splits.values():
        assert split.labels.dtype == np.int64
        assert len(split.labels) == len(split.images)
    assert images[0].open().size == (40, 32)
    assert any("café" in found.lower() for found in dataset.class_names)

    spec = DATASETS.get(name)
    assert ("not comparable with published" in caplog.text) == (spec is not None)
    assert spec is None or f" of {spec.classes} classes" in caplog.text

    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    shutil.copytree(tmp_path, moved)
    source = load_dataset(name, moved).splits["test"].images[0].source
    assert isinstance(source, Path)
    os.utime(source, (0, 0))
    assert load_dataset(name, moved).fingerprint == dataset.fingerprint
    source.write_bytes(source.read_bytes() + b"x")
    assert load_dataset(name, moved).fingerprint != dataset.fingerprint
