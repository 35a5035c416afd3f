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

from harness.data.download import SOURCES, list_folders
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
from ship.datasets.layouts import count_images, format_counts, get_file_size
from ship.datasets.lists import find_repeated

Hashes = tuple[bytes, bytes]
"""Hashes of an image's file and of its decoded pixels."""
_IMAGES: Final = (
    "images: published numbers of train/val/test; for datasets below xlsa17/, of "
    "trainval/test_seen/test_unseen"
)


def print_list(data_root: Path | None) -> None:
    """Print all named datasets, the first fault of each on disk, and how to get the others.

    Images are not decoded.

    Args:
        data_root: Folder of the datasets. None if there is none.
    """
    table = Table(box=None, header_style="bold")
    table.add_column("dataset", no_wrap=True)
    table.add_column("classes", no_wrap=True, justify="right")
    table.add_column("images", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("below the data root", overflow="fold")
    faulty, advice = list[str](), list[str]()
    specs: Any = DATASETS
    for name, spec in specs.items():
        folders = list_folders(spec)
        scan = DatasetScan()
        if folders and not (data_root and (data_root / spec.folder).is_dir()):
            state = "[dim]missing[/]" if data_root else "?"
            advice.append(f"{name}: {SOURCES[name].how}")
        else:
            scan = scan_dataset(name, data_root)
            state = "[red]faulty[/]" if scan.faults else "[green]present[/]"
        if scan.faults:
            faulty.append(f"{name}: {scan.faults[0]} ({len(scan.faults)} in all)")
        classes = spec.classes if folders else len(scan.class_names)
        images = spec.counts if folders else count_images(scan.splits)
        table.add_row(
            name, str(classes), format_counts(images), state, escape(folders or "packaged")
        )
    table.add_row(f"{PREFIX}NAME", "", "custom", "", "NAME/CLASS/")
    console = Console(highlight=False)
    console.print(table)
    console.print(_IMAGES, soft_wrap=True)
    for title, lines in {"faulty": faulty, "how to get them": advice}.items():
        if lines:
            console.print(f"\n[bold]{title}[/]")
            console.print("\n".join(lines), markup=False, soft_wrap=True)


def check_everything(
    name: str, data_root: Path | None, quick: bool, folder: ImageFolder
) -> tuple[DatasetScan, str]:
    """Scan a dataset, compare it with the published one and decode all of its images.

    Args:
        name: Name of the dataset.
        data_root: Folder of the datasets. None if there is none.
        quick: Whether to skip the decoding.
        folder: Options for reading an image_folder:NAME.

    Returns:
        The scan with all faults, and one line with the counts. Warnings of the scan include
        differences from the published dataset and classes without training images.

    Raises:
        DatasetError: There is no dataset of this name.
    """
    scan = scan_dataset(name, data_root, folder)
    label, faults = f"dataset {name}", Faults(scan.faults)
    warnings = Faults([*scan.differences, *scan.warnings])
    by_split = {split: scan.splits[split].images for split in SPLITS}
    if not scan.custom_split:  # in a custom split, repeated images are faults of the scan
        for split, images in by_split.items():
            repeats = find_repeated(image.name for image in images)
            warnings.add(label, "image", repeats, f"more than once in {split}")
    decoded = "nothing decoded"
    if not quick:
        contents = _decode(image for images in by_split.values() for image in images)
        hashes = {name: content for name, content in contents.items() if content}
        faults.add(label, "undecodable image", [name for name in contents if name not in hashes])
        same_bytes, same_pixels = (
            find_copies(label, _by_split(by_split, hashes, index), scan.custom_labels)
            for index in range(2)
        )
        # ship-sweep refuses copies of files in a custom folder, and does not detect other copies
        if scan.custom_split:
            faults += same_bytes
        warnings += [line for line in same_pixels if line not in faults]
        decoded = f"{count_noun(hashes, 'image')} decoded"
    if names := _untrained_classes(scan):
        n_untrained = count_noun(names, "class")
        warnings.append(f"{label}: no training images of {n_untrained}: {shorten_list(names)}")
    seen = "" if scan.n_seen is None else f" ({scan.n_seen} seen)"
    summary = (
        f"{name}: {format_counts(count_images(scan.splits))} images (train/val/test) of "
        f"{len(scan.class_names)} classes{seen}, {decoded}: "
        f"{count_noun(faults, 'fault') if faults else 'sound'}"
    )
    notes = (*scan.notes, *_split_lines(scan))
    return replace(scan, faults=tuple(faults), warnings=tuple(warnings), notes=notes), summary


def _by_split(
    images: Mapping[str, Sequence[ImageFile]], hashes: Mapping[str, Hashes], index: int
) -> dict[str, dict[str, bytes]]:
    """Return split -> name -> hash of each image that can be decoded.

    Args:
        images: Images by split.
        hashes: Hashes by the image's name.
        index: Which of the two hashes to return.
    """
    return {
        split: {image.name: hashes[image.name][index] for image in part if image.name in hashes}
        for split, part in images.items()
    }


def _split_lines(scan: DatasetScan) -> list[str]:
    """Return lines about the split of a custom folder: the number of images per class and split."""
    if not scan.custom_split or not scan.class_names:
        return []
    n_classes = len(scan.class_names)
    labels = (scan.splits[split].labels for split in SPLITS)
    counts = [np.bincount(of_split, minlength=n_classes).tolist() for of_split in labels]
    folders = scan.folder_names or scan.class_names
    lines = [f"split {scan.custom_split}; images for train/val/test:"]
    for name, folder, *class_counts in zip(scan.class_names, folders, *counts, strict=True):
        suffix = f" (folder {shorten_list([folder])})" if name != folder else ""
        lines.append(f"  {format_counts(class_counts)}  {shorten_list([name])}{suffix}")
    return lines


def _decode(images: Iterable[ImageFile]) -> dict[str, Hashes | None]:
    """Return the hashes of each image by name, or None for an image that cannot be decoded.

    Missing and empty files are left out; the scan reports them. A progress bar is shown if
    standard error is a terminal.
    """
    by_name = {image.name: image for image in images}
    existing = [image for image in by_name.values() if _has_content(image)]
    bar = Console(stderr=True)
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
    try:  # decoding releases the GIL
        hashes = pool.map(_hashes, existing)
        options: dict[str, Any] = {"transient": True, "disable": not bar.is_terminal}
        progress = track(hashes, "decoding", len(existing), console=bar, **options)
        return {image.name: pair for image, pair in zip(existing, progress, strict=True)}
    finally:
        pool.shutdown(cancel_futures=True)


def _hashes(image: ImageFile) -> Hashes | None:
    """Return the hashes of an image, or None if it cannot be decoded."""
    try:
        return hash_file(image), hash_pixels(image)
    except UndecodableError:
        return None


def _has_content(image: ImageFile) -> bool:
    """Return True if an image's file exists and is not empty. The scan reports the others."""
    source = image.source
    return (len(source) if isinstance(source, bytes) else get_file_size(source)) > 0


def _untrained_classes(scan: DatasetScan) -> list[str]:
    """Return the names of classes that need training images and have none.

    Officially unseen classes need none, nor do datasets without any training images, which can only
    be targets.
    """
    trained = set(scan.splits["train"].labels.tolist())
    seen = scan.class_names[: scan.n_seen]
    return [name for label, name in enumerate(seen) if trained and label not in trained]
