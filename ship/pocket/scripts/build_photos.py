"""Build the packaged photographs: python -m ship.pocket.scripts.build_photos --caltech DIR

DIR is Caltech-101 in CoOp's layout: 101_ObjectCategories/ and split_zhou_Caltech101.json.

Columns of photos.parquet, one row a picture, sorted by class_name, split and picture:
    image       WebP with a short side of SIDE pixels; grey pictures stay grey
    class_name  CoOp's, with spaces for underscores
    picture     the file's path below 101_ObjectCategories
    split       "train", "val" or "test": the one that CoOp's split file gives

Which pictures: all classes but the one of people's faces; of each class and split those whose path
has the smallest SHA-256 together with SEED. A picture that looks like one already drawn is passed
over (likeness.py says why and how), and the next takes its place. Test pictures are drawn first,
for they are the scarcest.

How they are stored: resized as the pocket CLIP does it (short side, bicubic), so that its own
resizing has nothing left to do. They are not cropped, although it looks at the central square
alone: augmented views are cut from anywhere in the picture (ship/features/views.py). A view of half
the area is then enlarged, as are those of emoji. WebP and not JPEG, because at 15 MB JPEG costs the
pocket CLIP 2.4 points of zero-shot accuracy (989 test pictures), more than noise, and WebP 0.8;
JPEG takes 28 MB for as much.

The same input gives the same rows with the same Pillow and libwebp, and the same file with the same
polars: Pillow 13.0.0 with libwebp 1.6.0 and polars 2.1.0 made the packaged one.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import polars as pl
import typer
from PIL import Image

from ship.pocket import PHOTOS_PARQUET
from ship.pocket.scripts.likeness import TWINS, Seen

SEED: Final = 0
SIDE: Final = 128
"""Pixels of the short side, which is image_size in open_clip_config.json."""
QUALITY: Final = 85
"""Of WebP, from 0 to 100."""
PER_CLASS: Final = {"test": 10, "val": 4, "train": 16}
"""Pictures at most of each class, in the order of drawing."""
LEFT_OUT: Final = ("face",)
"""CoOp's names of classes that are not packaged; Faces_easy and the clutter it has not at all."""
COLUMNS: Final = ("image", "class_name", "picture", "split")
FOLDER: Final = "101_ObjectCategories"
SPLIT_FILE: Final = "split_zhou_Caltech101.json"

Row = tuple[str, str, str]
"""class_name, split, picture."""


def read_rows(caltech: Path) -> list[Row]:
    """CoOp's whole split, without the classes of LEFT_OUT and the pictures of TWINS.

    Raises:
        OSError: there is no split file.
    """
    splits = json.loads((caltech / SPLIT_FILE).read_text("utf-8"))
    return [
        (name.replace("_", " "), split, path)
        for split in PER_CLASS
        for path, _, name in splits[split]
        if name not in LEFT_OUT and path not in TWINS
    ]


def in_drawing_order(rows: Iterable[Row]) -> list[Row]:
    """By class, by split as in PER_CLASS, then by the hash of SEED and path."""
    place = {split: i for i, split in enumerate(PER_CLASS)}

    def key(row: Row) -> tuple[str, int, bytes]:
        name, split, path = row
        return name, place[split], hashlib.sha256(f"{SEED}:{path}".encode()).digest()

    return sorted(rows, key=key)


def draw(rows: Iterable[Row], caltech: Path) -> Iterator[tuple[Row, Image.Image]]:
    """The rows to package, each with its decoded picture, in the order of drawing.

    Raises:
        OSError: a picture is missing or cannot be decoded.
    """
    seen = Seen()
    counts: dict[tuple[str, str], int] = {}
    for row in in_drawing_order(rows):
        name, split, path = row
        if counts.get((name, split), 0) == PER_CLASS[split]:
            continue
        with Image.open(caltech / FOLDER / path) as image:
            image.load()
        if seen.add(image):
            counts[name, split] = counts.get((name, split), 0) + 1
            yield row, image


def stored_size(width: int, height: int) -> tuple[int, int]:
    """Width and height, in pixels, to which torchvision resizes for a short side of SIDE."""
    short = min(width, height)
    return SIDE * width // short, SIDE * height // short


def encode(image: Image.Image) -> bytes:
    """A picture as it is stored: resized, WebP, without comments, profiles and EXIF."""
    small = image.resize(stored_size(*image.size), Image.Resampling.BICUBIC)
    small.info.clear()
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=QUALITY, method=6)
    return buffer.getvalue()


def packaged_rows(caltech: Path) -> pl.DataFrame:
    """The whole table: COLUMNS, sorted.

    Raises:
        OSError: a file of Caltech-101 is missing or cannot be decoded.
    """
    rows = [(encode(image), *row) for row, image in draw(read_rows(caltech), caltech)]
    schema = ["image", "class_name", "split", "picture"]
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.select(COLUMNS).sort("class_name", "split", "picture")


def build(
    caltech: Annotated[Path, typer.Option(help="Folder of Caltech-101 in CoOp's layout.")],
    out: Annotated[Path, typer.Option(help="The parquet file to write.")] = PHOTOS_PARQUET,
) -> None:
    """Build the photographs from a folder of Caltech-101."""
    frame = packaged_rows(caltech)
    frame.write_parquet(out, compression="zstd")
    classes = frame["class_name"].n_unique()
    counts = frame.group_by("class_name", "split").len().rows()
    fewer = {name for name, split, found in counts if found < PER_CLASS[split]}
    pictures = ", ".join(f"{(frame['split'] == split).sum()} {split}" for split in PER_CLASS)
    typer.echo(
        f"{out}: {classes} classes, {len(frame)} pictures ({pictures}), "
        f"{out.stat().st_size / 1e6:.1f} MB; with fewer pictures: {sorted(fewer)}"
    )


if __name__ == "__main__":
    typer.run(build)
