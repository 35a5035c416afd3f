"""Hash the images of a dataset, and find copies of images in several splits or classes.

Image files are read once, not at each start: their SHA-256 is cached on disk. A cached digest is
valid for a file of the same name, size, mtime and ctime. No program can set ctime back, so a file
that was changed or replaced is read again, even if size and mtime are equal.
"""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Final

import numpy as np

from ship.checksum import digest
from ship.datasets.base import SPLITS, DatasetError, Faults, ImageDataset, ImageFile
from ship.whole_file import write_whole

logger = logging.getLogger(__name__)

_FORMAT: Final = 1
_MAX_FILE_BYTES: Final = 1 << 28
"""Maximum size of a cache file in bytes. An image needs about 150 of them."""
_FRESH_NS: Final = 2_000_000_000
"""A digest is not cached if its file changed less than this time before it was read. On a file
system with coarse timestamps (up to 2 s), another change could leave the times unchanged."""


class DigestCache:
    """A cache of the digests of one dataset's images."""

    def __init__(self, folder: Path, dataset: str, now: Callable[[], int] = time.time_ns) -> None:
        """Read the cached digests, if there is a valid cache file.

        Args:
            folder: Folder with one cache file per dataset.
            dataset: Name and location of the dataset, as one text.
            now: Function that returns the current time in ns, by the clock of the file system.
        """
        key = hashlib.blake2b(dataset.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        label = re.sub(r"[^A-Za-z0-9.-]+", "_", dataset)[:40]
        self._file = folder / f"{label}-{key}.json"
        self._head, self._clock = f"{_FORMAT} {key}\n".encode(), now
        self._cached: dict[str, Any] = {}
        self._seen: dict[str, list[Any]] = {}
        with suppress(OSError, ValueError, RecursionError), self._file.open("rb") as file:
            checksum, _, body = file.read(_MAX_FILE_BYTES).partition(b"\n")
            if checksum == self._checksum(body) and isinstance(cached := json.loads(body), dict):
                self._cached = cached

    def get_hash(self, image: ImageFile) -> bytes:
        """Return the SHA-256 of an image's encoded bytes, which are only read if it is not cached.

        May be called from several threads.

        Raises:
            OSError: The file is missing or unreadable.
        """
        if isinstance(image.source, bytes):
            return hash_file(image)
        version = _read_file_version(image.source)
        match self._cached.get(image.name):
            case [*before, str(digits)] if before == version and re.fullmatch(
                "[0-9a-f]{64}", digits
            ):
                self._seen[image.name] = [*version, digits]
                return bytes.fromhex(digits)
        read_at = self._clock()
        content_hash = hash_file(image)
        is_unchanged = _read_file_version(image.source) == version
        if is_unchanged and max(version[1:]) < read_at - _FRESH_NS:
            self._seen[image.name] = [*version, content_hash.hex()]
        return content_hash

    def save(self) -> None:
        """Write the digests that were requested since the cache was read, and drop all others."""
        if self._seen != self._cached:
            body = json.dumps(self._seen, sort_keys=True).encode("ascii")
            with suppress(OSError):  # without a cache, the files are read again at the next start
                write_whole(self._file, self._checksum(body) + b"\n" + body)

    def _checksum(self, body: bytes) -> bytes:
        """Return the checksum of a cache of this dataset. It detects damage, not forgery."""
        return digest(self._head + body).encode()


def hash_dataset(dataset: ImageDataset, digest_cache: DigestCache | None = None) -> str:
    """Hash the content of a dataset: names, template, order, labels and the bytes of all images.

    Class names are those of the folders, even if a file gives the classes other names. Location and
    file dates are not included, so a copied dataset keeps its fingerprint. If the dataset is
    by_size, the size of an image replaces its bytes, and a change that keeps the size is not
    noticed.

    Files with equal bytes in two splits are reported here, because this function hashes all files.
    In a custom image folder they are a fault, as are equal files in two classes. A published split
    only gets a warning and is used unchanged, so its results are comparable with published ones.

    Args:
        dataset: The dataset.
        digest_cache: Cache of file hashes, so that only new and changed files are read.

    Raises:
        DatasetError: An image cannot be read, or a custom image folder has copies.
    """
    splits = dataset.splits
    where = f"dataset {dataset.name}"
    hash_image = digest_cache.get_hash if digest_cache else hash_file
    if dataset.by_size:
        hash_image = _encode_size

    def name_and_hash(image: ImageFile) -> tuple[str, bytes]:
        return image.name, hash_image(image)

    try:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
            pairs = {split: [*pool.map(name_and_hash, splits[split].images)] for split in SPLITS}
    except OSError as why:
        raise DatasetError(f"{where}: {why.filename}: {why.strerror}") from why
    if digest_cache:
        digest_cache.save()
    if not dataset.by_size:
        contents = {split: dict(hashes) for split, hashes in pairs.items()}
        copies = find_copies(where, contents, dataset.custom_labels)
        if copies and dataset.custom_split:
            raise DatasetError(*copies)
        for line in copies:
            logger.warning("%s", line)
    seen = () if dataset.n_seen is None else (dataset.n_seen,)
    names = dataset.folder_names or tuple(dataset.class_names)
    hasher = hashlib.sha256(repr((names, dataset.template, *seen)).encode())
    for split in SPLITS:
        hasher.update(f"{split} {len(splits[split])}".encode())
        hasher.update(np.ascontiguousarray(splits[split].labels).data)
    for name, content in chain.from_iterable(pairs.values()):
        hasher.update(name.encode("utf-8", "surrogateescape") + b"\0" + content)
    return hasher.hexdigest()[:32]


def hash_pixels(file: ImageFile) -> bytes:
    """Return the SHA-256 of an image's size and decoded RGB pixels.

    Unlike the hash of the bytes, it is the same for copies that differ only in metadata or lossless
    format. A resized image, or one that was encoded again with loss, has another hash.

    Raises:
        UndecodableError: The image cannot be decoded, or is too large.
    """
    image = file.open()
    return hashlib.sha256(f"{image.width} x {image.height}".encode() + image.tobytes()).digest()


def find_copies(
    where: str, contents: Mapping[str, Mapping[str, bytes]], label_of: Mapping[str, int]
) -> Faults:
    """Return equal images in two classes, and equal images in two splits (one line per pair).

    Only copies under different names count. Repeated names are reported when a list is read.

    Args:
        where: Dataset, for messages.
        contents: Split -> name of an image -> hash of its content.
        label_of: Name of an image -> its label. If it is empty, classes are not compared.
    """
    faults = Faults()
    first: dict[bytes, str] = {}
    images = chain.from_iterable(contents[split].items() for split in SPLITS)
    copies = [(first.setdefault(content, name), name) for name, content in images]
    in_two_classes = [f"{a} = {b}" for a, b in copies if label_of.get(a) != label_of.get(b)]
    faults.add(where, "image", in_two_classes, "under two classes")
    for split, later in combinations(SPLITS, 2):
        name_of = {content: name for name, content in contents[later].items()}
        pairs = [
            f"{name} = {name_of[content]}"
            for name, content in contents[split].items()
            if name_of.get(content, name) != name
        ]
        faults.add(where, f"image of {split}", pairs, f"also in {later}, under another name")
    return faults


def hash_file(image: ImageFile) -> bytes:
    """Return the SHA-256 of an image's encoded bytes.

    Raises:
        OSError: The file is missing or unreadable.
    """
    return hashlib.sha256(image.read()).digest()


def _encode_size(image: ImageFile) -> bytes:
    source = image.source
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return f"{size} bytes".encode()


def _read_file_version(path: Path) -> list[int]:
    """Return size, mtime and ctime (ns) of a file."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
