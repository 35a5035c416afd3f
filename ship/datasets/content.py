"""What pictures hold: the hash of a whole dataset, and pictures that two splits share."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np

from ship.datasets.base import SPLITS, Picture, Split, number, some
from ship.datasets.digests import DigestMemory


def picture_hashes(
    splits: Mapping[str, Split], *, by_size: bool = False, memory: DigestMemory | None = None
) -> dict[str, tuple[bytes, ...]]:
    """SHA-256 of the encoded bytes of every picture, by split, in the split's order.

    Args:
        by_size: each picture's size in the place of its hash, for sets too large to be read
            whenever a study starts. A picture changed at the same size goes unnoticed.
        memory: of files that were read before; None: each is read.

    Raises:
        OSError: a picture cannot be read.
    """
    of_picture = _size if by_size else _digest if memory is None else memory.digest
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
        found = {s: pool.map(of_picture, splits[s].pictures, chunksize=64) for s in SPLITS}
        hashes = {split: tuple(own) for split, own in found.items()}
    if memory is not None and not by_size:
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
        Exception: whatever Pillow raises for bytes that are not a whole picture.
    """
    image = picture.open()
    return hashlib.sha256(f"{image.width} x {image.height}".encode() + image.tobytes()).digest()


def copy_faults(contents: Mapping[str, Mapping[str, bytes]]) -> list[str]:
    """Pictures that stand in two splits under two names, a line for each two splits.

    One name in two splits is leak_faults' to tell.

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
