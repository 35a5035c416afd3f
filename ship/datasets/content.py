"""What pictures hold: the hash of a whole dataset, and pictures that two splits share.

The bytes of picture files are read once, not at each start: their SHA-256 is remembered on disk. A
digest holds for a file of this name, size, and times of its last change: the content's (mtime) and
the entry's (ctime), which no program can set back. So a file that was changed, or exchanged for
another one, is read again, even if its size and its mtime are as before.
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
from ship.datasets.base import SPLITS, DatasetError, Faults, Picture, PictureDataset
from ship.whole_file import write_whole

logger = logging.getLogger(__name__)

_FORMAT: Final = 1
_LARGEST: Final = 1 << 28
"""Bytes of a memory; a picture takes some 150."""
_FRESH_NS: Final = 2_000_000_000
"""A file that was changed so shortly before it was read is not remembered: a disk that counts time
in steps (2 s, at most) would give a change in the same step the same times."""


class DigestMemory:
    """The digests of one dataset's pictures."""

    def __init__(self, folder: Path, dataset: str, now: Callable[[], int] = time.time_ns) -> None:
        """Read what is remembered; nothing where there is no memory, or not a sound one.

        Args:
            folder: that holds a file for each dataset.
            dataset: its name and its place on this disk, as a text.
            now: the time in ns, by the clock of files.
        """
        key = hashlib.blake2b(dataset.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        label = re.sub(r"[^A-Za-z0-9.-]+", "_", dataset)[:40]
        self._file = folder / f"{label}-{key}.json"
        self._head, self._now = f"{_FORMAT} {key}\n".encode(), now
        self._held: dict[str, Any] = {}
        self._seen: dict[str, list[Any]] = {}
        with suppress(OSError, ValueError, RecursionError), self._file.open("rb") as file:
            checksum, _, body = file.read(_LARGEST).partition(b"\n")
            if checksum == self._checksum(body) and isinstance(held := json.loads(body), dict):
                self._held = held

    def digest(self, picture: Picture) -> bytes:
        """SHA-256 of the encoded bytes, which are read where nothing is remembered of them.

        May be called from several threads.

        Raises:
            OSError: the file is not there, or cannot be read.
        """
        if isinstance(picture.source, bytes):
            return file_hash(picture)
        stamp = _stamp(picture.source)
        match self._held.get(picture.name):
            case [*before, str(digits)] if before == stamp and re.fullmatch("[0-9a-f]{64}", digits):
                self._seen[picture.name] = [*stamp, digits]
                return bytes.fromhex(digits)
        begun = self._now()
        content_hash = file_hash(picture)
        if _stamp(picture.source) == stamp and max(stamp[1:]) < begun - _FRESH_NS:
            self._seen[picture.name] = [*stamp, content_hash.hex()]
        return content_hash

    def keep(self) -> None:
        """Remember all that was asked for, and nothing else."""
        if self._seen != self._held:
            body = json.dumps(self._seen, sort_keys=True).encode("ascii")
            with suppress(OSError):  # it is read again at the next start: no reason to stop
                write_whole(self._file, self._checksum(body) + b"\n" + body)

    def _checksum(self, body: bytes) -> bytes:
        """Of a memory of this dataset: it finds accidents, and no forgery."""
        return digest(self._head + body).encode()


def fingerprint(dataset: PictureDataset, memory: DigestMemory | None = None) -> str:
    """Hash what a dataset holds: names, template, order, labels and every picture's bytes.

    Names are those of the folders where a file gives the classes others.

    Folder and file dates do not count, so a copied or re-downloaded dataset keeps its fingerprint.
    Nor does a number of officially seen classes where there is none. Where it is by_size, a
    picture's size stands for its bytes, and one that was changed at the same size goes unnoticed.

    Files with the same bytes in two splits are told as well, as every file's bytes are hashed
    here. In one's own folder they are a fault, and so are those under two classes. A published
    split is used as it is, with a warning: without them its figures could not be compared.

    Args:
        memory: of the hashes of files, which are then read only if they are new or changed.
    Raises:
        DatasetError: a picture that cannot be read, or copies.
    """
    splits = dataset.splits
    where = f"dataset {dataset.name}"
    hashed = memory.digest if memory else file_hash
    if dataset.by_size:
        hashed = _size

    def named(picture: Picture) -> tuple[str, bytes]:
        return picture.name, hashed(picture)

    try:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
            pairs = {split: [*pool.map(named, splits[split].pictures)] for split in SPLITS}
    except OSError as why:
        raise DatasetError(f"{where}: {why.filename}: {why.strerror}") from why
    if memory:
        memory.keep()
    if not dataset.by_size:
        copies = copy_faults(
            where, {split: dict(own) for split, own in pairs.items()}, dataset.own_labels
        )
        if copies and dataset.own_split:
            raise DatasetError(*copies)
        for line in copies:
            logger.warning("%s", line)
    seen = () if dataset.n_seen is None else (dataset.n_seen,)
    names = dataset.folder_names or tuple(dataset.class_names)
    whole = hashlib.sha256(repr((names, dataset.template, *seen)).encode())
    for split in SPLITS:
        whole.update(f"{split} {len(splits[split])}".encode())
        whole.update(np.ascontiguousarray(splits[split].labels).data)
    for picture, content in chain.from_iterable(pairs.values()):
        whole.update(picture.encode("utf-8", "surrogateescape") + b"\0" + content)
    return whole.hexdigest()[:32]


def pixel_hash(picture: Picture) -> bytes:
    """SHA-256 of a picture's size and decoded RGB pixels.

    Equal for copies that differ in what is no picture (dates, comments, another lossless format),
    which the hash of the bytes tells apart. A picture that was resized, or encoded anew with a
    loss, has another one.

    Raises:
        UndecodableError: it is not a whole picture, or too large.
    """
    image = picture.open()
    return hashlib.sha256(f"{image.width} x {image.height}".encode() + image.tobytes()).digest()


def copy_faults(
    where: str, contents: Mapping[str, Mapping[str, bytes]], label_of: Mapping[str, int]
) -> Faults:
    """Pictures that stand under two classes; and in two splits, a line for each two splits.

    Under two names: a picture that stands in two places under one is a fault of the list.

    Args:
        where: the dataset, for messages.
        contents: split -> name of a picture -> hash of what it holds.
        label_of: name of a picture -> its class; empty: classes are not looked at.
    """
    faults = Faults()
    first: dict[bytes, str] = {}
    held = chain.from_iterable(contents[split].items() for split in SPLITS)
    same = [(first.setdefault(content, name), name) for name, content in held]
    torn = [f"{one} = {other}" for one, other in same if label_of.get(one) != label_of.get(other)]
    faults.tell(where, "picture", torn, "under two classes")
    for one, other in combinations(SPLITS, 2):
        there = {content: name for name, content in contents[other].items()}
        pairs = [
            f"{name} = {there[content]}"
            for name, content in contents[one].items()
            if there.get(content, name) != name
        ]
        faults.tell(where, f"picture of {one}", pairs, f"also in {other}, under another name")
    return faults


def file_hash(picture: Picture) -> bytes:
    """Return the SHA-256 of a picture's encoded bytes.

    Raises:
        OSError: the file is not there, or cannot be read.
    """
    return hashlib.sha256(picture.read()).digest()


def _size(picture: Picture) -> bytes:
    source = picture.source
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return f"{size} bytes".encode()


def _stamp(path: Path) -> list[int]:
    """Size, mtime and ctime (ns)."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
