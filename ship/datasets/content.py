"""Hash the images of a dataset, and find copies of images in several splits or classes.

The SHA-256 of each image file is cached on disk, so that unchanged files are read only once. A
cached hash is used as long as the file's name, size, mtime and ctime are the same. The ctime is
compared because cp -p, rsync and tar can give a changed file the mtime of the old one.
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

from ship.checksum import compute_checksum
from ship.datasets.base import SPLITS, DatasetError, Faults, ImageDataset, ImageFile
from ship.whole_file import write_whole

logger = logging.getLogger(__name__)

_FORMAT: Final = 1
_MAX_FILE_BYTES: Final = 1 << 28
"""Maximum size of a cache file in bytes (about 150 per image). Larger files are ignored."""
_MIN_AGE_NS: Final = 2_000_000_000
"""The hash of a file that was modified less than 2 s before it was read is not cached: where
timestamps are coarse, another change after reading might leave the mtime the same."""


class DigestCache:
    """An on-disk cache of the SHA-256 hashes of one dataset's image files."""

    def __init__(self, folder: Path, dataset: str, now: Callable[[], int] = time.time_ns) -> None:
        """Load the cache file. A missing or damaged file counts as an empty cache.

        Args:
            folder: Folder with one cache file per dataset.
            dataset: Name and location of the dataset in one string. The name of the cache file is
                derived from it.
            now: Function that returns the current time in ns, to compare file timestamps with.
        """
        key = hashlib.blake2b(dataset.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        label = re.sub(r"[^A-Za-z0-9.-]+", "_", dataset)[:40]
        self._file = folder / f"{label}-{key}.json"
        self._checksum_prefix = f"{_FORMAT} {key}\n".encode()
        self._now = now
        self._cached: dict[str, Any] = {}
        self._requested: dict[str, list[Any]] = {}
        with suppress(OSError, ValueError, RecursionError), self._file.open("rb") as file:
            checksum, _, body = file.read(_MAX_FILE_BYTES).partition(b"\n")
            if checksum == self._checksum(body) and isinstance(cached := json.loads(body), dict):
                self._cached = cached

    def get_hash(self, image: ImageFile) -> bytes:
        """Return the SHA-256 of an image's encoded bytes. Files with a cached hash are not read.

        Several threads may call this function at once.

        Raises:
            OSError: The file is missing or unreadable.
        """
        if isinstance(image.source, bytes):
            return hash_file(image)
        version = _read_file_version(image.source)
        match self._cached.get(image.name):
            case [*cached_version, str(digits)] if cached_version == version and re.fullmatch(
                "[0-9a-f]{64}", digits
            ):
                self._requested[image.name] = [*version, digits]
                return bytes.fromhex(digits)
        read_at = self._now()
        content_hash = hash_file(image)
        is_unchanged = _read_file_version(image.source) == version
        if is_unchanged and max(version[1:]) < read_at - _MIN_AGE_NS:
            self._requested[image.name] = [*version, content_hash.hex()]
        return content_hash

    def save(self) -> None:
        """Write the hashes that `get_hash` has returned, and drop those of all other images.

        Hashes of files that changed during or shortly before reading are not written (see
        _MIN_AGE_NS). If the cache file would not change, nothing is written. A failure to write it
        is ignored.
        """
        if self._requested != self._cached:
            body = json.dumps(self._requested, sort_keys=True).encode("ascii")
            with suppress(OSError):  # images are then read again next time
                write_whole(self._file, self._checksum(body) + b"\n" + body)

    def _checksum(self, body: bytes) -> bytes:
        """Return the checksum of a cache file's body. It detects damage, not forgery."""
        return compute_checksum(self._checksum_prefix + body).encode()


def hash_dataset(dataset: ImageDataset, digest_cache: DigestCache | None = None) -> str:
    """Hash the content of a dataset, and report images that occur in several splits or classes.

    The hash covers:

    - the class names (those of the folders, even if a file gives the classes other names),
    - the template, and the number of officially seen classes unless it is None,
    - the number of images and the labels of each split,
    - the name and the bytes of each image, in order.

    The location and file dates are not hashed, so a copied dataset has the same hash. If
    `dataset.by_size` is set, only file sizes are hashed, so a change that keeps the size goes
    unnoticed.

    In a custom image folder, images with equal bytes in two splits or two classes are an error. In
    other datasets, such copies in two splits cause only a warning: published splits are used
    unchanged, to keep results comparable. If `dataset.by_size` is set, copies are not searched for.

    Args:
        dataset: The dataset.
        digest_cache: Cache of file hashes, so that only new and changed files are read. None reads
            all files.

    Returns:
        The hash, 32 hex digits.

    Raises:
        DatasetError: An image cannot be read, or a custom image folder has copies.
    """
    splits = dataset.splits
    where = f"dataset {dataset.name}"
    hash_image = digest_cache.get_hash if digest_cache else hash_file
    if dataset.by_size:
        hash_image = _encode_size

    def hash_with_name(image: ImageFile) -> tuple[str, bytes]:
        return image.name, hash_image(image)

    try:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
            named_hashes = {
                split: [*pool.map(hash_with_name, splits[split].images)] for split in SPLITS
            }
    except OSError as error:
        raise DatasetError(f"{where}: {error.filename}: {error.strerror}") from error
    if digest_cache:
        digest_cache.save()
    if not dataset.by_size:
        contents = {split: dict(pairs) for split, pairs in named_hashes.items()}
        copies = find_copies(where, contents, dataset.custom_labels)
        if copies and dataset.custom_split:
            raise DatasetError(*copies)
        for line in copies:
            logger.warning("%s", line)
    n_seen = () if dataset.n_seen is None else (dataset.n_seen,)
    names = dataset.folder_names or tuple(dataset.class_names)
    hasher = hashlib.sha256(repr((names, dataset.template, *n_seen)).encode())
    for split in SPLITS:
        hasher.update(f"{split} {len(splits[split])}".encode())
        hasher.update(np.ascontiguousarray(splits[split].labels).data)
    for name, content in chain.from_iterable(named_hashes.values()):
        hasher.update(name.encode("utf-8", "surrogateescape") + b"\0" + content)
    return hasher.hexdigest()[:32]


def hash_pixels(file: ImageFile) -> bytes:
    """Return the SHA-256 of an image's size and decoded RGB pixels.

    Copies that differ only in metadata or in a lossless format have the same hash. Resized images,
    and images that were encoded again with loss, have a different one.

    Raises:
        UndecodableError: The image cannot be decoded, or is too large.
    """
    image = file.open()
    return hashlib.sha256(f"{image.width} x {image.height}".encode() + image.tobytes()).digest()


def find_copies(
    where: str, contents: Mapping[str, Mapping[str, bytes]], label_of: Mapping[str, int]
) -> Faults:
    """Find images with different names but equal content that are in two classes or two splits.

    Images with the same name are not compared; Listing.check_images reports those.

    Args:
        where: Dataset, for messages.
        contents: Split -> name of an image -> hash of its content.
        label_of: Name of an image -> its label. If it is empty, classes are not compared.

    Returns:
        One fault for all copies in two classes, and one per pair of splits with copies.
    """
    faults = Faults()
    first_name_by_hash: dict[bytes, str] = {}
    images = chain.from_iterable(contents[split].items() for split in SPLITS)
    copies = [(first_name_by_hash.setdefault(content, name), name) for name, content in images]
    in_two_classes = [f"{a} = {b}" for a, b in copies if label_of.get(a) != label_of.get(b)]
    faults.add(where, "image", in_two_classes, "under two classes")
    for split, other_split in combinations(SPLITS, 2):
        name_by_hash = {content: name for name, content in contents[other_split].items()}
        pairs = [
            f"{name} = {name_by_hash[content]}"
            for name, content in contents[split].items()
            if name_by_hash.get(content, name) != name
        ]
        faults.add(where, f"image of {split}", pairs, f"also in {other_split}, under another name")
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
