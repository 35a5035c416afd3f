"""What a dataset is: named classes and three splits of labelled pictures."""

import io
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int64
from PIL import Image

SPLITS: Final = ("train", "val", "test")
"""The names of a dataset's splits, in the order of extraction."""


FORMATS: Final = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What pictures may be, whatever they are called: for others Pillow starts programs (EPS)."""
LARGEST_PICTURE: Final = 89_478_485
"""Pixels; decoded they take a quarter of a GiB. Above, Pillow warns of a bomb."""
LARGEST_FILE: Final = 1 << 28
"""Bytes of one picture, or of one list of pictures, which are read as a whole."""


class DatasetError(ValueError):
    """A dataset that cannot be used.

    Attributes:
        faults: every fault found, one self-contained line each; str() joins them with newlines.
    """

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))

    def __reduce__(self) -> tuple[type["DatasetError"], tuple[tuple[str, ...]]]:
        return type(self), (self.faults,)  # the default would pass the joined text as one fault


class UndecodableError(Exception):
    """A picture that is too large to be decoded, or no whole one of FORMATS; str() says where.

    picture: its name.
    """

    def __init__(self, picture: str, where: str) -> None:
        super().__init__(where)
        self.picture = picture


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, not yet decoded: a file, or encoded bytes held in memory.

    name: what messages call it; a path relative to the dataset, or an icon's name.
    """

    name: str
    source: Path | bytes

    def read(self) -> bytes:
        """The encoded bytes."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    def open(self) -> Image.Image:
        """Decode to RGB, transparency over white; EXIF orientation is left alone, as in CoOp.

        Raises:
            UndecodableError: it cannot be read, or has more than LARGEST_PICTURE pixels.
        """
        where = str(self.source if isinstance(self.source, Path) else self.name)
        try:
            with Image.open(io.BytesIO(self.read()), formats=FORMATS) as image:
                if image.width * image.height <= LARGEST_PICTURE:
                    return to_rgb(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            pass
        except Exception as why:  # Pillow raises nearly anything for broken bytes
            raise UndecodableError(self.name, where) from why
        what = f"more than {LARGEST_PICTURE} pixels are too many"
        raise UndecodableError(self.name, f"{where} ({what})")


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled pictures; labels[i] belongs to pictures[i]."""

    pictures: tuple[Picture, ...]
    labels: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True, eq=False)
class PictureDataset:
    """A whole dataset, its faults already ruled out.

    name: as given in the configuration, e.g. "caltech101" or "image_folder:birds".
    class_names: by label, "_" written as a space; distinct, but for two pairs of ImageNet's.
    template: prompt with one {} for a class name.
    splits: "train", "val" and "test"; the first two are empty in a set that is a target alone.
    fingerprint: hash of class names, template, order, labels and picture bytes (32 hex digits);
        of the ImageNet family, sizes stand for bytes.
    n_seen: classes 0 .. n_seen - 1 are the officially seen ones; None: there is no official split.
    split_version: which official split this is, for people; "" where there is but one.
    """

    name: str
    class_names: tuple[str, ...]
    template: str
    splits: Mapping[str, Split]
    fingerprint: str
    n_seen: int | None = None
    split_version: str = ""


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB: transparency over white, 16-bit grey scaled to 8 bits."""
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would clip at 255 and turn most 16-bit pictures white
        grey = np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return image.convert("RGB")


def some(items: Iterable[object], shown: int = 5) -> str:
    """The first few items and how many there are: "a, b, c, d, e and 7 more".

    Items that would break a line, or cannot be printed, are shown as Python writes them.
    """
    everything = [str(item) for item in items]
    head = ", ".join(_shown(text) for text in everything[:shown])
    return head if len(everything) <= shown else f"{head} and {len(everything) - shown} more"


def _shown(text: str, width: int = 200) -> str:
    """A text in one line of bounded length that no terminal takes for a command."""
    printable = text if text.isprintable() else repr(text)
    return printable if len(printable) <= width else f"{printable[: width - 3]}..."


def number(items: Sized, noun: str) -> str:
    """How many: "1 picture", "2 pictures", "1 missing class", "2 pictures of zero bytes"."""
    if len(items) == 1:
        return f"1 {noun}"
    head, separator, tail = noun.partition(" of ")
    ending = "es" if head.endswith("s") else "s"
    return f"{len(items)} {head}{ending}{separator}{tail}"


class Faults(list[str]):
    """What is wrong with a dataset, a line each in the order of finding; readers add to it."""

    def tell(self, where: object, noun: str, items: Iterable[object], what: str = "") -> None:
        """Add "WHERE: 2 NOUNs WHAT: a, b"; nothing where there are no items.

        Args:
            where: the file or the folder that is to be mended, or the dataset.
            noun: one of the items, as number takes it.
            items: which they are.
            what: what is wrong with them; "": the noun says it.
        """
        items = list(items)
        if items:
            self.append(f"{where}: {number(items, noun)}{what and ' '}{what}: {some(items)}")
