"""Inspect the datasets on disk: `ship-data list` and `ship-data check`."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from harness.data.download import SOURCES, format_folders
from ship.datasets import (
    DATASETS,
    PREFIX,
    SPLITS,
    DatasetScan,
    ImageFile,
    ImageFolder,
    UndecodableError,
    scan_dataset,
)
from ship.datasets.base import Faults, count_noun, shorten_list
from ship.datasets.content import find_copies, hash_file, hash_pixels
from ship.datasets.layouts import count_images_by_split, format_counts, get_file_size
from ship.datasets.lists import find_repeated

Hashes = tuple[bytes, bytes]
"""Hash of an image's file, and hash of its decoded pixels."""
_COLUMN_NOTE: Final = (
    "images: published numbers of train/val/test images. For datasets below xlsa17/, the numbers "
    "are those of trainval/test_seen/test_unseen images"
)


def print_list(data_root: Path | None) -> None:
    """Print a table of the datasets, the first fault of faulty ones, and how to get missing ones.

    Images are not decoded.

    Args:
        data_root: Folder of the datasets. If None, only packaged datasets are read. The others have
            the state "?", and the output says how to get each of them.
    """
    table = Table(box=None, header_style="bold")
    table.add_column("dataset", no_wrap=True)
    table.add_column("classes", no_wrap=True, justify="right")
    table.add_column("images", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("below the data root", overflow="fold")
    faulty, advice = list[str](), list[str]()  # lines below the table
    specs: Any = DATASETS
    for name, spec in specs.items():
        folders = format_folders(spec)
        scan = DatasetScan()
        if folders and not (data_root and (data_root / spec.folder).is_dir()):
            state = "[dim]missing[/]" if data_root else "?"
            advice.append(f"{name}: {SOURCES[name].instructions}")
        else:
            scan = scan_dataset(name, data_root)
            state = "[red]faulty[/]" if scan.faults else "[green]present[/]"
        if scan.faults:
            faulty.append(f"{name}: {scan.faults[0]} ({len(scan.faults)} in all)")
        classes = spec.n_classes if folders else len(scan.class_names)
        images = spec.n_images if folders else count_images_by_split(scan.splits)
        table.add_row(
            name, str(classes), format_counts(images), state, escape(folders or "packaged")
        )
    table.add_row(f"{PREFIX}NAME", "", "custom", "", "NAME/CLASS/")
    console = Console(highlight=False)
    console.print(table)
    console.print(_COLUMN_NOTE, soft_wrap=True)
    for title, lines in {"faulty": faulty, "how to get them": advice}.items():
        if lines:
            console.print(f"\n[bold]{title}[/]")
            console.print("\n".join(lines), markup=False, soft_wrap=True)


def check_everything(
    name: str, data_root: Path | None, quick: bool, folder: ImageFolder
) -> tuple[DatasetScan, str]:
    """Check a dataset's files, compare it with the published one, and decode all of its images.

    Args:
        name: Name of the dataset.
        data_root: Folder of the datasets. None is only valid for packaged datasets.
        quick: Whether to skip the decoding, and with it the search for copies.
        folder: Options for reading image_folder:NAME. Unused for other datasets.

    Returns:
        The scan with all faults, warnings and notes, and a summary in one line. Warnings include
        differences from the published dataset and classes without training images.

    Raises:
        DatasetError: There is no dataset of this name.
    """
    scan = scan_dataset(name, data_root, folder)
    label, faults = f"dataset {name}", Faults(scan.faults)
    warnings = Faults([*scan.differences, *scan.warnings])
    by_split = {split: scan.splits[split].images for split in SPLITS}
    if not scan.custom_split:  # the scan itself reports repeated images of a custom split
        for split, images in by_split.items():
            repeats = find_repeated(image.name for image in images)
            warnings.add(label, "image", repeats, f"more than once in {split}")
    decoded = "nothing decoded"
    if not quick:
        hashes_or_none = _hash_images(image for images in by_split.values() for image in images)
        hashes = {image: pair for image, pair in hashes_or_none.items() if pair}
        undecodable = [image for image in hashes_or_none if image not in hashes]
        faults.add(label, "undecodable image", undecodable)
        same_bytes, same_pixels = (
            find_copies(label, _group_hashes(by_split, hashes, index), scan.custom_labels)
            for index in range(2)
        )
        # Copied files in a custom folder are faults, because ship-sweep refuses them. It looks
        # neither for equal pixels nor for copies in other datasets: these are warnings.
        if scan.custom_split:
            faults += same_bytes
        warnings += [line for line in same_pixels if line not in faults]
        decoded = f"{count_noun(hashes, 'image')} decoded"
    if names := _find_untrained_classes(scan):
        n_untrained = count_noun(names, "class")
        warnings.append(f"{label}: no training images of {n_untrained}: {shorten_list(names)}")
    seen = "" if scan.n_seen is None else f" ({scan.n_seen} seen)"
    summary = (
        f"{name}: {format_counts(count_images_by_split(scan.splits))} images (train/val/test) of "
        f"{len(scan.class_names)} classes{seen}, {decoded}: "
        f"{count_noun(faults, 'fault') if faults else 'sound'}"
    )
    notes = (*scan.notes, *_describe_split(scan))
    return replace(scan, faults=tuple(faults), warnings=tuple(warnings), notes=notes), summary


def _group_hashes(
    by_split: Mapping[str, Sequence[ImageFile]], hashes: Mapping[str, Hashes], index: int
) -> dict[str, dict[str, bytes]]:
    """Return split -> name -> hash of each image that can be decoded.

    Args:
        by_split: Images by split.
        hashes: Hashes by the image's name.
        index: 0 for the hash of the file, 1 for the hash of the pixels.
    """
    return {
        split: {image.name: hashes[image.name][index] for image in images if image.name in hashes}
        for split, images in by_split.items()
    }


def _describe_split(scan: DatasetScan) -> list[str]:
    """Return lines with a custom folder's numbers of images per class and split.

    For other datasets, return [].
    """
    if not scan.custom_split or not scan.class_names:
        return []
    n_classes = len(scan.class_names)
    counts = [
        np.bincount(scan.splits[split].labels, minlength=n_classes).tolist() for split in SPLITS
    ]
    folders = scan.folder_names or scan.class_names
    lines = [f"split {scan.custom_split}; images for train/val/test:"]
    for name, folder, *class_counts in zip(scan.class_names, folders, *counts, strict=True):
        suffix = f" (folder {shorten_list([folder])})" if name != folder else ""
        lines.append(f"  {format_counts(class_counts)}  {shorten_list([name])}{suffix}")
    return lines


def _hash_images(images: Iterable[ImageFile]) -> dict[str, Hashes | None]:
    """Decode images in threads, and return image name -> hashes.

    The value is None for an image that cannot be decoded. Missing and empty files are left out,
    because the scan reports them. A progress bar is shown if standard error is a terminal.
    """
    by_name = {image.name: image for image in images}
    existing = [image for image in by_name.values() if _has_content(image)]
    bar = Console(stderr=True)
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
    try:  # decoding releases the GIL
        hashes = pool.map(_hash_image, existing)
        options: dict[str, Any] = {"transient": True, "disable": not bar.is_terminal}
        progress = track(hashes, "decoding", len(existing), console=bar, **options)
        return {image.name: pair for image, pair in zip(existing, progress, strict=True)}
    finally:
        pool.shutdown(cancel_futures=True)


def _hash_image(image: ImageFile) -> Hashes | None:
    """Return the hashes of an image's file and pixels, or None if it cannot be decoded."""
    try:
        return hash_file(image), hash_pixels(image)
    except UndecodableError:
        return None


def _has_content(image: ImageFile) -> bool:
    """Return True if an image's file exists and is not empty."""
    source = image.source
    return (len(source) if isinstance(source, bytes) else get_file_size(source)) > 0


def _find_untrained_classes(scan: DatasetScan) -> list[str]:
    """Return the names of seen classes that have no training images.

    Classes that the published split defines as unseen are not considered. The list is empty for a
    dataset without any training images, which can only be a target.
    """
    trained_labels = set(scan.splits["train"].labels.tolist())
    if not trained_labels:
        return []
    seen = scan.class_names[: scan.n_seen]
    return [name for label, name in enumerate(seen) if label not in trained_labels]
