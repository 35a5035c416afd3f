"""Labels, splits and fingerprints of CoOp's, FGVC-Aircraft's and ImageNet's layouts."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ship.datasets import DATASETS, PUBLISHED, SPLITS, load_dataset
from ship.datasets.folders import select_images
from tests.case_files import load_cases
from tests.ship.datasets.conftest import SPLIT_FILE
from tests.ship.datasets.trees import LAYOUTS, WNIDS, aircraft_tree, class_names, imagenet_tree

A, B, C = WNIDS
TARGETS = load_cases(__file__, "classes.yaml")["targets"]


def test_coop_split_file_gives_names_labels_and_template(coop_root: Path) -> None:
    """Names are cleaned, and labels are those of the split file."""
    dataset = load_dataset("caltech101", coop_root)
    assert dataset.class_names == ("sea horse", "café")
    assert dataset.template.format(dataset.class_names[0]) == "a photo of a sea horse."
    assert [len(split) for split in dataset.splits.values()] == [6, 2, 4]
    assert dataset.splits["train"].labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_fingerprint_changes_with_row_order_and_class_names(coop_root: Path) -> None:
    """Cached features have one row per image in this order."""
    split_file = coop_root / "caltech-101" / SPLIT_FILE
    document = json.loads(split_file.read_text(encoding="utf-8"))
    document["train"].reverse()
    turned = json.dumps(document)
    seen = {load_dataset("caltech101", coop_root).fingerprint}
    for text in (turned, turned.replace('"sea_horse"', '"sea_lion"')):
        split_file.write_text(text)
        seen.add(load_dataset("caltech101", coop_root).fingerprint)
    assert len(seen) == 3


def test_aircraft_labels_follow_the_lines_of_variants(tmp_path: Path) -> None:
    """Labels have the order of the file, as in CoOp; names may contain spaces."""
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
def test_imagenet_uses_64_train_and_10_val_images_per_class(n: int, train: int, val: int) -> None:
    """Smaller classes give a fifth to val; the order of the listing does not matter."""
    paths = [f"train/{A}/{i}.JPEG" for i in range(n)]
    parts = select_images(paths)
    assert {split: len(part) for split, part in parts.items()} == {"train": train, "val": val}
    assert len({*parts["train"], *parts["val"]}) == train + val
    assert select_images(paths[::-1]) == parts


def test_imagenet_labels_follow_classnames(tmp_path: Path) -> None:
    """Labels follow classnames.txt, and test images are those of images/val."""
    imagenet_tree(tmp_path)
    class_names(tmp_path / "imagenet", {wnid: WNIDS[wnid] for wnid in (C, A, B)})
    dataset = load_dataset("imagenet", tmp_path)
    assert dataset.class_names == ("kit fox", "tench", "café")
    assert [len(split) for split in dataset.splits.values()] == [12, 6, 6]
    for name, split in dataset.splits.items():
        for image, label in zip(split.images, split.labels.tolist(), strict=True):
            part, wnid, _ = image.name.split("/")
            assert (part, wnid) == ("val" if name == "test" else "train", (C, A, B)[label])


def test_imagenet_fingerprint_uses_paths_and_sizes(tmp_path: Path) -> None:
    """Other bytes of the same size are not noticed; sizes and names are."""
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
def test_imagenet_variants_have_only_test_images(tmp_path: Path, name: str) -> None:
    """A and R have a part of the classes; imagenet/ may contain the names."""
    expected, first = TARGETS[name]
    LAYOUTS[name](tmp_path)
    (names_file,) = tmp_path.glob("*/classnames.txt")
    (tmp_path / "imagenet").mkdir()
    for _ in range(2):
        dataset = load_dataset(name, tmp_path)
        assert list(dataset.class_names) == expected
        assert [len(split) for split in dataset.splits.values()] == [0, 0, 2 * len(expected)]
        assert dataset.splits["test"].images[0].name == first
        assert dataset.splits["test"].labels.tolist() == [i // 2 for i in range(2 * len(expected))]
        if names_file.exists():
            names_file.rename(tmp_path / "imagenet/classnames.txt")


@pytest.mark.data
def test_caltech101_has_the_published_counts(caplog: pytest.LogCaptureFixture) -> None:
    """The real folder loads without a warning."""
    if "SHIP_DATA_ROOT" not in os.environ:
        pytest.skip("SHIP_DATA_ROOT is not set")
    dataset = load_dataset("caltech101", Path(os.environ["SHIP_DATA_ROOT"]))
    spec = PUBLISHED["caltech101"]
    assert tuple(len(split) for split in dataset.splits.values()) == spec.n_images
    assert dataset.class_names[:3] == ("face", "leopard", "motorbike")
    assert len(dataset.class_names) == spec.n_classes and not caplog.records


@pytest.mark.parametrize("name", LAYOUTS)
def test_sound_tree_loads_in_every_layout(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Labels fit the names, splits are disjoint, and the fingerprint ignores location and dates."""
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
    assert any("café" in result.lower() for result in dataset.class_names)

    spec = DATASETS.get(name)
    assert ("not comparable with published" in caplog.text) == (spec is not None)
    assert spec is None or f" of {spec.n_classes} classes" in caplog.text

    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    shutil.copytree(tmp_path, moved)
    source = load_dataset(name, moved).splits["test"].images[0].source
    assert isinstance(source, Path)
    os.utime(source, (0, 0))
    assert load_dataset(name, moved).fingerprint == dataset.fingerprint
    source.write_bytes(source.read_bytes() + b"x")
    assert load_dataset(name, moved).fingerprint != dataset.fingerprint
