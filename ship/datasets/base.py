"""What a dataset is: named classes and three splits of labelled pictures."""

import hashlib
import io
import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64
from PIL import Image

SPLITS: Final = ("train", "val", "test")
"""The names of a dataset's splits, in the order of extraction."""


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
            Exception: whatever Pillow raises for bytes that are not a whole picture.
        """
        with Image.open(io.BytesIO(self.read())) as image:
            return to_rgb(image)


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
    class_names: by label, "_" written as a space; distinct.
    template: prompt with one {} for a class name.
    splits: "train", "val" and "test".
    fingerprint: hash of class names, template, order, labels and picture bytes (32 hex digits).
    """

    name: str
    class_names: tuple[str, ...]
    template: str
    splits: Mapping[str, Split]
    fingerprint: str


@runtime_checkable
class DatasetSpec(Protocol):
    """How one dataset is found, checked and read."""

    @property
    def template(self) -> str:
        """Prompt with one {} for a class name."""

    def check(self, name: str, data_root: Path | None) -> None:
        """Raise DatasetError with every fault that can be seen without decoding pictures."""

    def load(self, name: str, data_root: Path | None) -> PictureDataset:
        """Check, then read names, labels and picture references, and hash the content."""


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


def clean_class_name(name: str) -> str:
    """Underscores to spaces, runs of white space to one, composed (NFC) characters."""
    return unicodedata.normalize("NFC", " ".join(name.replace("_", " ").split()))


def escapes(path: str) -> bool:
    """Whether a relative path, taken at its word, leaves the folder it is relative to."""
    return PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts


def some(items: Iterable[object], shown: int = 5) -> str:
    """The first few items and how many there are: "a, b, c, d, e and 7 more"."""
    everything = [str(item) for item in items]
    head = ", ".join(everything[:shown])
    return head if len(everything) <= shown else f"{head} and {len(everything) - shown} more"


def picture_faults(folder: Path, paths: Iterable[str]) -> list[str]:
    """Paths that leave the folder, files that are not there, files without content."""
    outside, missing, empty = [], [], []
    for path in sorted(set(paths)):
        if not path or "\0" in path or escapes(path):
            outside.append(repr(path))
            continue
        try:
            found = (folder / path).stat()
        except OSError:
            missing.append(path)
            continue
        if not stat.S_ISREG(found.st_mode):
            missing.append(path)
        elif found.st_size == 0:
            empty.append(path)
    wording = {
        "picture paths that leave the folder": outside,
        "missing pictures": missing,
        "pictures of zero bytes": empty,
    }
    return [f"{len(bad)} {fault}: {some(bad)}" for fault, bad in wording.items() if bad]


def content_fingerprint(
    class_names: Sequence[str], template: str, splits: Mapping[str, Split]
) -> str:
    """Hash what a dataset holds: names, template, order, labels and every picture's bytes.

    Folder and file dates do not count, so a copied or re-downloaded dataset keeps its fingerprint.
    """
    pictures = [picture for split in SPLITS for picture in splits[split].pictures]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
        contents = pool.map(_digest, pictures, chunksize=64)
        whole = hashlib.sha256(repr((tuple(class_names), template)).encode())
        for split in SPLITS:
            whole.update(f"{split} {len(splits[split])}".encode())
            whole.update(np.ascontiguousarray(splits[split].labels).data)
        for picture, content in zip(pictures, contents, strict=True):
            whole.update(picture.name.encode("utf-8", "surrogateescape") + b"\0" + content)
    return whole.hexdigest()[:32]


def _digest(picture: Picture) -> bytes:
    return hashlib.sha256(picture.read()).digest()
