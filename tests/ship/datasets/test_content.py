"""Pictures that stand in two splits under two names: told apart by what they hold."""

import logging
import shutil
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from ship.datasets import DatasetError, Picture, load_dataset, survey_dataset
from ship.datasets.content import copy_faults, pixel_hash
from tests.ship.datasets.conftest import save_picture
from tests.ship.datasets.trees import imagenet_tree


def test_every_two_splits_are_compared_and_pairs_are_named() -> None:
    """The first five are shown; a name that stands in both splits is another check's to tell."""
    many = {f"dog/{i}.png": bytes([i]) for i in range(7)}
    copies = {f"cat/{i}.png": bytes([i]) for i in range(7)}
    assert copy_faults("x", {"train": many, "val": {}, "test": copies}, {}) == [
        "x: 7 pictures of train also in test, under another name: dog/0.png = cat/0.png, "
        "dog/1.png = cat/1.png, dog/2.png = cat/2.png, dog/3.png = cat/3.png, "
        "dog/4.png = cat/4.png and 2 more"
    ]
    one = {"a.png": b"1"}
    assert copy_faults(
        "x", {"train": {"t.png": b"2"}, "val": one, "test": {"b.png": b"1"}}, {}
    ) == ["x: 1 picture of val also in test, under another name: a.png = b.png"]
    assert copy_faults("x", {"train": one, "val": {"v.png": b"1"}, "test": {}}, {}) == [
        "x: 1 picture of train also in val, under another name: a.png = v.png"
    ]
    assert not copy_faults("x", {"train": one, "val": {}, "test": one}, {})


def test_pixels_are_compared_not_files(tmp_path: Path) -> None:
    """Another format and a comment make no difference; one pixel and the shape do."""
    save_picture(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    comment = PngImagePlugin.PngInfo()
    comment.add_text("date", "today")
    image.save(tmp_path / "b.png", pnginfo=comment)
    image.save(tmp_path / "c.bmp")
    names = ("a.png", "b.png", "c.bmp")
    assert len({pixel_hash(Picture(name, tmp_path / name)) for name in names}) == 1
    assert len({(tmp_path / name).read_bytes() for name in names}) == 3
    image.putpixel((0, 0), (1, 2, 3))
    image.save(tmp_path / "d.png")
    Image.new("RGB", (40, 32)).save(tmp_path / "e.png")
    Image.new("RGB", (32, 40)).save(tmp_path / "f.png")
    names = ("a.png", "d.png", "e.png", "f.png")
    assert len({pixel_hash(Picture(name, tmp_path / name)) for name in names}) == 4


def test_training_refuses_copies_in_ones_own_folder(folder_root: Path) -> None:
    """The file's bytes are hashed anyway; both names stand in the line, which has no other."""
    splits = survey_dataset("image_folder:pets", folder_root).splits
    train, test = splits["train"].pictures[0].name, splits["test"].pictures[0].name
    shutil.copy(folder_root / "pets" / train, folder_root / "pets" / test)
    with pytest.raises(DatasetError) as caught:
        load_dataset("image_folder:pets", folder_root)
    assert caught.value.faults == (
        "dataset image_folder:pets: 1 picture of train also in test, under another name: "
        f"{train} = {test}",
    )


def test_a_picture_under_two_classes_is_refused(folder_root: Path) -> None:
    """Both paths stand in the line, whichever splits they are in."""
    splits = survey_dataset("image_folder:pets", folder_root).splits
    dog = splits["train"].pictures[0].name
    lion = next(p.name for p in splits["train"].pictures if p.name.startswith("sea"))
    shutil.copy(folder_root / "pets" / dog, folder_root / "pets" / lion)
    with pytest.raises(DatasetError) as caught:
        load_dataset("image_folder:pets", folder_root)
    where = "dataset image_folder:pets"
    assert caught.value.faults == (f"{where}: 1 picture under two classes: {dog} = {lion}",)


def test_a_published_split_with_copies_is_used_with_a_warning(
    coop_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without them its figures could not be compared with others'."""
    images = coop_root / "caltech-101/101_ObjectCategories"
    shutil.copy(images / "sea_horse/train0.jpg", images / "sea_horse/test1.jpg")
    load_dataset("caltech101", coop_root)
    assert [r.message for r in caplog.records if r.levelno == logging.WARNING][1:] == [
        "dataset caltech101: 1 picture of train also in test, under another name: "
        "sea_horse/train0.jpg = sea_horse/test1.jpg"
    ]


def test_where_sizes_stand_for_bytes_nothing_is_a_copy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """ImageNet's pictures are not read when a study starts, and equal sizes say nothing."""
    imagenet_tree(tmp_path)
    for path in (tmp_path / "imagenet/images").rglob("*.JPEG"):
        path.write_bytes(b"x" * 100)
    load_dataset("imagenet", tmp_path)
    assert "also in" not in caplog.text
