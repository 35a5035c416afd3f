"""The packaged photographs, and the scripts that made them and tell of them."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw, ImageOps

from ship.datasets.base import Picture, clean_class_name
from ship.pocket import MODEL_DIR, PHOTOS_PARQUET
from ship.pocket.scripts import build_photos
from ship.pocket.scripts.build_photos import COLUMNS, PER_CLASS, SIDE, SPLIT_FILE, stored_size
from ship.pocket.scripts.known_names import NEITHER, by_source
from ship.pocket.scripts.likeness import LIKE, TWINS, Seen, thumbnail

FEWER = {
    ("garfield", "train"): 14,
    ("inline skate", "test"): 8,
    ("metronome", "test"): 9,
    ("metronome", "train"): 14,
    ("metronome", "val"): 3,
    ("octopus", "train"): 14,
    ("strawberry", "test"): 9,
}
"""Pictures of the classes and splits that have not the usual number."""


@pytest.fixture(scope="module")
def photos() -> pl.DataFrame:
    """The packaged table."""
    return pl.read_parquet(PHOTOS_PARQUET)


def test_schema_and_size(photos: pl.DataFrame) -> None:
    """Columns, order of rows, and a file small enough to ship and readable by all."""
    assert tuple(photos.columns) == COLUMNS
    assert photos.schema["image"] == pl.Binary
    assert not any(photos.null_count().row(0))
    assert photos.equals(photos.sort("class_name", "split", "picture"))
    status = PHOTOS_PARQUET.stat()
    assert status.st_size < 16e6
    assert status.st_mode & 0o444 == 0o444


def test_counts(photos: pl.DataFrame) -> None:
    """99 classes without people's faces, with 16, 4 and 10 pictures but for a few."""
    names = photos["class_name"].unique()
    assert len(names) == 99
    assert not any(name.lower().startswith("face") for name in names)
    counts = Counter(photos.select("class_name", "split").rows())
    expected = {(name, split): number for name in names for split, number in PER_CLASS.items()}
    assert counts == {**expected, **FEWER}


def test_no_picture_is_there_twice(photos: pl.DataFrame) -> None:
    """Neither as a file, nor as bytes, nor as pixels."""
    assert photos["picture"].is_unique().all()
    assert photos["image"].is_unique().all()
    pixels = {
        hashlib.sha256(Picture(name, image).open().tobytes()).digest()
        for name, image in photos.select("picture", "image").rows()
    }
    assert len(pixels) == len(photos)


def test_no_picture_is_like_another(photos: pl.DataFrame) -> None:
    """Mirrored or not, as they were packaged; encoding may move a likeness a little."""
    thumbnails = np.stack([thumbnail(Picture("", image).open()) for image in photos["image"]])
    unit = thumbnails.reshape(len(photos), -1)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    mirrored = unit.reshape(thumbnails.shape)[:, :, ::-1].reshape(unit.shape)
    likest = np.triu(np.maximum(unit @ unit.T, unit @ mirrored.T), 1).max()
    assert likest < LIKE + 0.01


def test_every_picture_decodes_to_the_backbones_size(photos: pl.DataFrame) -> None:
    """The short side is what the pocket CLIP reads, and nothing but pixels is stored."""
    config = json.loads((MODEL_DIR / "open_clip_config.json").read_text("utf-8"))
    assert config["model_cfg"]["vision_cfg"]["image_size"] == SIDE
    for name, image in photos.select("picture", "image").rows():
        picture = Picture(name, image).open()
        assert (picture.mode, min(picture.size)) == ("RGB", SIDE), name
        assert not {"exif", "icc_profile", "comment", "xmp"} & set(picture.info), name


@pytest.mark.parametrize(
    ("size", "stored"),
    [((300, 200), (192, 128)), ((80, 300), (128, 480)), ((128, 131), (128, 131))],
)
def test_stored_size(size: tuple[int, int], stored: tuple[int, int]) -> None:
    """Small pictures grow, and the long side is cut to a whole pixel as torchvision does."""
    assert stored_size(*size) == stored


def drawing(*corners: int) -> Image.Image:
    """A black ellipse on white."""
    image = Image.new("RGB", (200, 120), "white")
    ImageDraw.Draw(image).ellipse(corners, fill="black")
    return image


def test_likeness_sees_through_mirrors_sizes_and_colours() -> None:
    """A picture is let in once, whatever was done to it; another one is let in."""
    one = drawing(10, 10, 80, 50)
    seen = Seen()
    assert seen.add(one)
    assert not seen.add(ImageOps.mirror(one).resize((100, 60)))
    assert not seen.add(ImageOps.colorize(one.convert("L"), "navy", "beige"))
    assert seen.add(drawing(90, 70, 190, 110))
    assert seen.add(Image.new("RGB", (50, 50), "white"))  # a single grey level is like nothing


def test_packaging_a_small_caltech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces stay out, a twin gives way to the next picture, and test pictures come first."""
    monkeypatch.setattr(build_photos, "PER_CLASS", {"test": 1, "val": 1, "train": 1})
    twin = drawing(10, 10, 80, 50)
    pictures = {
        "sea_horse/test.png": twin,
        "sea_horse/train.png": ImageOps.mirror(twin),
        "sea_horse/train2.png": drawing(90, 70, 190, 110),
        "Faces/train.png": drawing(60, 5, 190, 60),
        "octopus/image_0002.jpg": drawing(5, 60, 60, 115),
    }
    for path, picture in pictures.items():
        file = tmp_path / build_photos.FOLDER / path
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
    splits = {
        "train": [
            ["sea_horse/train.png", 1, "sea_horse"],
            ["sea_horse/train2.png", 1, "sea_horse"],
            ["Faces/train.png", 0, "face"],
        ],
        "val": [["octopus/image_0002.jpg", 2, "octopus"]],  # of TWINS
        "test": [["sea_horse/test.png", 1, "sea_horse"]],
    }
    (tmp_path / SPLIT_FILE).write_text(json.dumps(splits), "utf-8")
    rows = build_photos.packaged_rows(tmp_path).select(COLUMNS[1:]).rows()
    assert rows == [
        ("sea horse", "sea_horse/test.png", "test"),
        ("sea horse", "sea_horse/train2.png", "train"),
    ]


def test_names_by_source() -> None:
    """A name goes to the first source that has the whole of it."""
    known = {"a": {"crab", "car"}, "b": {"crab", "lotus"}}
    found = by_source(["crab", "lotus", "car side"], known)
    assert found == {"a": ("crab",), "b": ("lotus",), NEITHER: ("car side",)}


def caltech() -> Path:
    """The folder of Caltech-101 beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("SHIP_DATA_ROOT", "")) / "caltech-101"
    if "SHIP_DATA_ROOT" not in os.environ or not folder.is_dir():
        pytest.skip("SHIP_DATA_ROOT names no folder with caltech-101")
    return folder


@pytest.mark.data
def test_names_and_splits_are_coops(photos: pl.DataFrame) -> None:
    """Every class but faces, by its name, and every picture in the split where CoOp has it."""
    splits = json.loads((caltech() / SPLIT_FILE).read_text("utf-8"))
    rows = {
        (clean_class_name(name), path, split)
        for split, pictures in splits.items()
        for path, _, name in pictures
    }
    assert {name for name, _, _ in rows} - set(photos["class_name"]) == {"face"}
    assert set(photos.select(COLUMNS[1:]).rows()) < rows
    assert {path for _, path, _ in rows} > TWINS


@pytest.mark.data
def test_the_script_rebuilds_the_same_rows(photos: pl.DataFrame) -> None:
    """The same pictures in the same order, with the same pixels where Pillow's libwebp is the same.

    Other versions may encode differently, so pixels are compared with a tolerance.
    """
    built = build_photos.packaged_rows(caltech())
    assert built.select(COLUMNS[1:]).equals(photos.select(COLUMNS[1:]))
    for ours, theirs in zip(built["image"][::50], photos["image"][::50], strict=True):
        one, other = (np.asarray(Picture("", i).open(), dtype=float) for i in (ours, theirs))
        assert np.abs(one - other).mean() < 2
