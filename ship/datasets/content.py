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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np

from ship.datasets.base import SPLITS, DatasetError, Picture, Split, Survey, number, some
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
        self._key, self._now = key, now
        self._held = self._read()
        self._seen: dict[str, list[Any]] = {}

    def digest(self, picture: Picture) -> bytes:
        """SHA-256 of the encoded bytes, which are read where nothing is remembered of them.

        May be called from several threads.

        Raises:
            OSError: the file is not there, or cannot be read.
        """
        if isinstance(picture.source, bytes):
            return _digest(picture)
        stamp = _stamp(picture.source)
        match self._held.get(picture.name):
            case [*before, str(digits)] if before == stamp and re.fullmatch("[0-9a-f]{64}", digits):
                self._seen[picture.name] = [*stamp, digits]
                return bytes.fromhex(digits)
        begun = self._now()
        digest = _digest(picture)
        if _stamp(picture.source) == stamp and max(stamp[1:]) < begun - _FRESH_NS:
            self._seen[picture.name] = [*stamp, digest.hex()]
        return digest

    def keep(self) -> None:
        """Remember all that was asked for, and nothing else."""
        if self._seen != self._held:
            body = json.dumps(self._seen, sort_keys=True).encode("ascii")
            with suppress(OSError):  # it is read again at the next start: no reason to stop
                write_whole(self._file, self._checksum(body) + b"\n" + body)

    def _read(self) -> dict[str, Any]:
        try:
            with self._file.open("rb") as file:
                checksum, _, body = file.read(_LARGEST).partition(b"\n")
            memory = json.loads(body) if checksum == self._checksum(body) else {}
        except (OSError, ValueError, RecursionError):
            return {}
        return memory if isinstance(memory, dict) else {}

    def _checksum(self, body: bytes) -> bytes:
        """Of a memory of this dataset: it finds accidents, and no forgery."""
        head = f"{_FORMAT} {self._key}\n".encode()
        return hashlib.blake2b(head + body, digest_size=16).hexdigest().encode()


def fingerprint(name: str, template: str, survey: Survey, memory: DigestMemory | None) -> str:
    """The hash of a sound survey's content.

    Files with the same bytes in two splits are told as well, as every file's bytes are hashed
    here; not where sizes stand for bytes. In one's own folder they are a fault. A published split
    is used as it is, with a warning: without them its figures could not be compared.

    Raises:
        DatasetError: a picture that cannot be read, or copies.
    """
    splits = survey.splits
    try:
        hashes = picture_hashes(splits, by_size=survey.by_size, memory=memory)
    except OSError as why:
        raise DatasetError(f"dataset {name}: {why.filename}: {why.strerror}") from why
    if not survey.by_size:
        named = {
            split: {p.name: h for p, h in zip(splits[split].pictures, hashes[split], strict=True)}
            for split in SPLITS
        }
        copies = [f"dataset {name}: {fault}" for fault in copy_faults(named)]
        if copies and survey.own_split:
            raise DatasetError(*copies)
        for line in copies:
            logger.warning("%s", line)
    return content_fingerprint(survey.class_names, template, splits, hashes, survey.n_seen)


def picture_hashes(
    splits: Mapping[str, Split], *, by_size: bool = False, memory: DigestMemory | None = None
) -> dict[str, tuple[bytes, ...]]:
    """SHA-256 of the encoded bytes of every picture, by split, in the split's order.

    Args:
        by_size: each picture's size in the place of its hash, for sets too large to be read
            whenever a study starts. A picture changed at the same size goes unnoticed.
        memory: of the hashes of files, which are then read only if they are new or changed.
    Raises:
        OSError: a picture is not there, or cannot be read.
    """
    hashed = _size if by_size else memory.digest if memory else _digest
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
        hashes = {split: tuple(pool.map(hashed, splits[split].pictures)) for split in SPLITS}
    if memory:
        memory.keep()
    return hashes


def content_fingerprint(
    class_names: Sequence[str],
    template: str,
    splits: Mapping[str, Split],
    hashes: Mapping[str, Sequence[bytes]],
    n_seen: int | None = None,
) -> str:
    """Hash what a dataset holds: names, template, order, labels and every picture's bytes.

    Folder and file dates do not count, so a copied or re-downloaded dataset keeps its fingerprint.

    Args:
        hashes: as picture_hashes gives them.
        n_seen: of the official split; None leaves the hash as it is without one.
    """
    head = (tuple(class_names), template)
    whole = hashlib.sha256(repr(head if n_seen is None else (*head, n_seen)).encode())
    for split in SPLITS:
        whole.update(f"{split} {len(splits[split])}".encode())
        whole.update(np.ascontiguousarray(splits[split].labels).data)
    for split in SPLITS:
        for picture, content in zip(splits[split].pictures, hashes[split], strict=True):
            whole.update(picture.name.encode("utf-8", "surrogateescape") + b"\0" + content)
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


def copy_faults(contents: Mapping[str, Mapping[str, bytes]]) -> list[str]:
    """Pictures that stand in two splits under two names, a line for each two splits.

    A picture that stands in two splits under one name is a fault of the list.

    Args:
        contents: split -> name of a picture -> hash of what it holds.
    """
    faults = []
    for one, other in combinations(SPLITS, 2):
        held = {content: name for name, content in contents[other].items()}
        pairs = [
            f"{name} = {held[content]}"
            for name, content in contents[one].items()
            if held.get(content, name) != name
        ]
        if pairs:
            be = "is" if len(pairs) == 1 else "are"
            what = number(pairs, f"picture of {one}")
            faults.append(f"{what} {be} also in {other}, under another name: {some(pairs)}")
    return faults


def _digest(picture: Picture) -> bytes:
    return hashlib.sha256(picture.read()).digest()


def _size(picture: Picture) -> bytes:
    source = picture.source
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return f"{size} bytes".encode()


def _stamp(path: Path) -> list[int]:
    """Size, mtime and ctime (ns)."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
