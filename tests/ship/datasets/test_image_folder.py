"""Custom image folders: the hashed split, given splits, and skipped files."""

import json
from pathlib import Path

import pytest

from ship.datasets import ImageFolder, load_dataset, scan_dataset
from ship.datasets.image_folder import split_by_hash
from tests.ship.datasets.conftest import save_image


def test_class_directories_are_split_50_20_30(folder_root: Path) -> None:
    """Ten images give 5/2/3 and three give 1/1/1; names are cleaned and sorted."""
    dataset = load_dataset("image_folder:pets", folder_root)
    assert dataset.class_names == ("dog", "sea lion")
    labels = {name: split.labels.tolist() for name, split in dataset.splits.items()}
    assert labels == {"train": [0] * 5 + [1], "val": [0] * 2 + [1], "test": [0] * 3 + [1]}
    names = [p.name for split in dataset.splits.values() for p in split.images]
    assert len(names) == len(set(names)) == 13


@pytest.mark.parametrize(
    ("file", "text"),
    {
        "class_names.csv": '\ufefffolder,name\nsea_lion,"a lion,\n at_sea"\n\ndog, hound\n',
        "class_names.txt": "sea_lion a lion, at sea\r\ndog\thound\r\n",
        "elsewhere.csv": 'dog,hound\nsea_lion,"a lion, at sea"',
    }.items(),
)
def test_class_names_file_renames_classes_only(folder_root: Path, file: str, text: str) -> None:
    """Labels, splits and images_fingerprint stay; the dataset's fingerprint changes."""
    before = load_dataset("image_folder:pets", folder_root)
    path = folder_root / "pets" / file
    path.write_bytes(text.encode())
    dataset = ImageFolder(str(path)) if file.startswith("else") else ImageFolder()
    after = load_dataset("image_folder:pets", folder_root, folder=dataset)
    assert after.class_names == ("hound", "a lion, at sea")
    assert after.fingerprint != before.fingerprint == before.images_fingerprint
    assert after.images_fingerprint == before.fingerprint
    comma = "," if path.suffix == ".csv" else " "
    path.write_text(f"dog{comma}dog\nsea_lion{comma}sea lion")
    same = load_dataset("image_folder:pets", folder_root, folder=dataset)
    assert same.fingerprint == before.fingerprint


def test_hashed_split_depends_only_on_paths_and_seed() -> None:
    """Neither the order of the listing nor other classes change the split."""
    paths = [f"dog/{i}.png" for i in range(20)]
    assert split_by_hash(paths) == split_by_hash(paths[::-1])
    sizes = {n: {k: len(v) for k, v in split_by_hash(paths[:n]).items()} for n in (3, 4, 20)}
    assert sizes[3] == {"val": 1, "test": 1, "train": 1}
    assert sizes[4] == {"val": 1, "test": 1, "train": 2}
    assert sizes[20] == {"val": 4, "test": 6, "train": 10}
    drawn = [split_by_hash(paths, seed) for seed in (0, 1, 2)]
    assert drawn[0] == split_by_hash(paths) and drawn[0] != drawn[1] != drawn[2] != drawn[0]
    assert {name: len(images) for name, images in drawn[1].items()} == sizes[20]


def test_train_val_and_test_folders_are_the_splits(tmp_path: Path) -> None:
    """Each image stays in its folder's split, and split_seed is rejected."""
    for split, n in {"train": 4, "val": 1, "test": 2}.items():
        for name in ("cat", "dog"):
            for i in range(n):
                save_image(tmp_path / "a/pets" / split / name / f"{split}{i}.jpg")
    dataset = load_dataset("image_folder:a/pets", tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert [len(split) for split in dataset.splits.values()] == [8, 2, 4]
    assert all(p.name.startswith("val/") for p in dataset.splits["val"].images)
    scan = scan_dataset("image_folder:a/pets", tmp_path, ImageFolder(split_seed=3))
    fault = "split_seed cannot be combined with the folders train, val and test, got 3"
    assert scan.faults == (f"{tmp_path / 'a/pets'}: {fault}",)


def test_split_file_defines_classes_and_splits(folder_root: Path) -> None:
    """Directories of the folder are ignored."""
    rows = [[f"dog/{i}.png", i % 2, ("small", "large")[i % 2]] for i in range(8)]
    listed = {"train": rows[:4], "val": rows[4:6], "test": rows[6:]}
    path = folder_root / "mine.json"
    path.write_text(json.dumps(listed))
    (folder_root / "pets/class_names.txt").write_text("x")
    images = ImageFolder(split=str(path))
    dataset = load_dataset("image_folder:pets", folder_root, folder=images)
    assert (dataset.class_names, dataset.split_version) == (("small", "large"), "mine.json")
    result = {split: [p.name for p in part.images] for split, part in dataset.splits.items()}
    assert result == {split: [row[0] for row in part] for split, part in listed.items()}
    assert dataset.warnings == (
        f"{folder_root / 'pets'}: class_names.txt ignored, because {path} contains the class names",
    )
    edited = {"train": [*rows[:4], ["./dog//0.png", 0, "small"]], "test": [["no.png", 0, "small"]]}
    path.write_text(json.dumps({**listed, **edited}))
    assert scan_dataset("image_folder:pets", folder_root, images).faults == (
        f"{path}: 1 image more than once in train: dog/0.png",
        f"{path}: 1 class without an image in test: large",
        f"{path}: {folder_root / 'pets'}: 1 missing image: no.png",
    )


def test_skipped_files_are_reported(folder_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Hidden files, other suffixes and link loops are notes; .heic files are warnings."""
    (folder_root / "pets/Classnames.txt").write_text("dog hound")
    (folder_root / "pets/dog/notes.txt").write_text("x")
    (folder_root / "pets/dog/._1.png").write_text("x")
    (folder_root / "pets/.git").mkdir()
    save_image(folder_root / "pets/dog/deep/er/11.PNG")
    (folder_root / "pets/dog/ring").symlink_to(folder_root / "pets/dog")
    save_image(folder_root / "pets/dog/.thumbnails/1.png")
    (folder_root / "pets/dog/IMG_1.HEIC").write_bytes(b"x")
    scan = scan_dataset("image_folder:pets", folder_root)
    where = f"{folder_root / 'pets'}: "
    assert scan.notes == (
        f"{where}4 paths skipped, being hidden, read before, or without the suffix of an image: "
        "dog/._1.png, dog/.thumbnails, dog/notes.txt, dog/ring",
    )
    line = (
        "1 file ignored, in a format that Pillow cannot read (save as JPEG or PNG): dog/IMG_1.HEIC"
    )
    names = "as class names (rename it to class_names.csv or class_names.txt): Classnames.txt"
    assert scan.warnings == (f"{where}1 file not read {names}", where + line)
    assert sum(len(split) for split in scan.splits.values()) == 14
    load_dataset("image_folder:pets", folder_root)
    assert tuple(record.message for record in caplog.records) == scan.warnings


def test_links_to_parents_are_not_followed(
    folder_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Links to the folder or its parents add no images and cause no loop."""
    save_image(folder_root / "others/cat/0.png")
    away = tmp_path_factory.mktemp("disk")
    (folder_root / "pets").rename(away / "pets")
    (folder_root / "pets").symlink_to(away / "pets")
    save_image(away / "cat/0.png")
    targets = {"own": away / "pets", "root": folder_root, "top": Path("/"), "disk": away}
    for name, target in targets.items():
        (away / "pets/dog" / name).symlink_to(target)
    scan = scan_dataset("image_folder:pets", folder_root)
    assert scan.warnings == (
        f"{folder_root / 'pets'}: 4 links to the dataset's folder or one of its "
        "parents, not followed: dog/disk, dog/own, dog/root, dog/top",
    )
    assert sum(len(split) for split in scan.splits.values()) == 13
