"""What lies on disk: `ship-data list`, and `ship-data check`, which finds all that can be wrong."""

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

from harness.data.download import SOURCES, places
from ship.datasets import (
    DATASETS,
    PREFIX,
    SPLITS,
    ImageFolder,
    Picture,
    Survey,
    UndecodableError,
    survey_dataset,
)
from ship.datasets.base import Faults, number, some
from ship.datasets.content import copy_faults, file_hash, pixel_hash
from ship.datasets.layouts import counted, file_size, slashed
from ship.datasets.lists import repeated

Hashes = tuple[bytes, bytes]
"""Of a picture's file, and of its decoded pixels."""
_PICTURES: Final = (
    "pictures: train/val/test as published; below xlsa17/, trainval/test_seen/test_unseen"
)


def print_list(data_root: Path | None) -> None:
    """Print every dataset with a name of its own, what is faulty, and how to get what is absent.

    Pictures are looked at, not read.
    """
    table = Table(box=None, header_style="bold")
    table.add_column("dataset", no_wrap=True)
    table.add_column("classes", no_wrap=True, justify="right")
    table.add_column("pictures", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("below the data root", overflow="fold")
    faulty, absent = list[str](), list[str]()
    specs: Any = DATASETS
    for name, spec in specs.items():
        where = places(spec)
        survey = Survey()
        if where and not (data_root and (data_root / spec.folder).is_dir()):
            state = "[dim]missing[/]" if data_root else "?"
            absent.append(f"{name}: {SOURCES[name].how}")
        else:
            survey = survey_dataset(name, data_root)
            state = "[red]faulty[/]" if survey.faults else "[green]present[/]"
        if survey.faults:
            faulty.append(f"{name}: {survey.faults[0]} ({len(survey.faults)} in all)")
        classes = spec.classes if where else len(survey.class_names)
        pictures = spec.counts if where else counted(survey.splits)
        table.add_row(name, str(classes), slashed(pictures), state, escape(where or "packaged"))
    table.add_row(f"{PREFIX}NAME", "", "your own", "", "NAME/CLASS/")
    console = Console(highlight=False)
    console.print(table)
    console.print(_PICTURES, soft_wrap=True)
    for title, lines in {"faulty": faulty, "how to get them": absent}.items():
        if lines:
            console.print(f"\n[bold]{title}[/]")
            console.print("\n".join(lines), markup=False, soft_wrap=True)


def check_everything(
    name: str, data_root: Path | None, quick: bool, folder: ImageFolder
) -> tuple[Survey, str]:
    """Survey a dataset, compare it with the published one and decode all of its pictures.

    Args:
        quick: leave out the decoding.
        folder: how an image_folder:NAME is read.
    Returns:
        The survey with all faults; its warnings tell, too, in what it is unlike the published
        dataset, and classes that cannot be trained on. And one line with the counts.
    Raises:
        DatasetError: there is no dataset of this name.
    """
    survey = survey_dataset(name, data_root, folder)
    where, faults = f"dataset {name}", Faults(survey.faults)
    odd = Faults([*survey.unlike, *survey.warnings])
    by_split = {split: survey.splits[split].pictures for split in SPLITS}
    for split, pictures in () if survey.own_split else by_split.items():  # there they are faults
        twice = repeated(picture.name for picture in pictures)
        odd.tell(where, "picture", twice, f"more than once in {split}")
    decoded = "nothing decoded"
    if not quick:
        contents = _decode(picture for pictures in by_split.values() for picture in pictures)
        sound = {name: content for name, content in contents.items() if content}
        faults.tell(where, "undecodable picture", [name for name in contents if name not in sound])
        same_bytes, same_pixels = (
            copy_faults(where, _by_split(by_split, sound, place), survey.own_labels)
            for place in range(2)
        )
        # ship-sweep refuses copies of files in a custom folder, and sees no other copies
        if survey.own_split:
            faults += same_bytes
        odd += [line for line in same_pixels if line not in faults]
        decoded = f"{number(sound, 'picture')} decoded"
    if untrained := _untrained_classes(survey):
        many = number(untrained, "class")
        odd.append(f"{where}: no training pictures of {many}: {some(untrained)}")
    seen = "" if survey.n_seen is None else f" ({survey.n_seen} seen)"
    summary = (
        f"{name}: {slashed(counted(survey.splits))} pictures (train/val/test) of "
        f"{len(survey.class_names)} classes{seen}, {decoded}: "
        f"{number(faults, 'fault') if faults else 'sound'}"
    )
    notes = (*survey.notes, *_split_lines(survey))
    return replace(survey, faults=tuple(faults), warnings=tuple(odd), notes=notes), summary


def _by_split(
    pictures: Mapping[str, Sequence[Picture]], hashes: Mapping[str, Hashes], place: int
) -> dict[str, dict[str, bytes]]:
    """Group one of the hashes of each picture that can be decoded by split and name."""
    return {
        split: {one.name: hashes[one.name][place] for one in part if one.name in hashes}
        for split, part in pictures.items()
    }


def _split_lines(survey: Survey) -> list[str]:
    """How one's own folder is split, and what each class has then."""
    if not survey.own_split or not survey.class_names:
        return []
    n_classes = len(survey.class_names)
    labels = (survey.splits[split].labels for split in SPLITS)
    counts = [np.bincount(own, minlength=n_classes).tolist() for own in labels]
    folders = survey.folder_names or survey.class_names
    lines = [f"split {survey.own_split}; pictures for train/val/test:"]
    for name, folder, *own in zip(survey.class_names, folders, *counts, strict=True):
        called = f" (folder {some([folder])})" if name != folder else ""
        lines.append(f"  {slashed(own)}  {some([name])}{called}")
    return lines


def _decode(pictures: Iterable[Picture]) -> dict[str, Hashes | None]:
    """Hash each picture's file and pixels, by name; None where Pillow cannot decode it whole.

    What is missing or empty, which the survey tells, is left out. A bar shows how far it is, where
    standard error is a terminal.
    """
    named = {picture.name: picture for picture in pictures}
    there = [picture for picture in named.values() if _has_content(picture)]
    bar = Console(stderr=True)
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
    try:  # decoding releases the GIL
        hashes = pool.map(_hashes, there)
        shown: dict[str, Any] = {"transient": True, "disable": not bar.is_terminal}
        tracked = track(hashes, "decoding", len(there), console=bar, **shown)
        return {picture.name: found for picture, found in zip(there, tracked, strict=True)}
    finally:
        pool.shutdown(cancel_futures=True)


def _hashes(picture: Picture) -> Hashes | None:
    try:
        return file_hash(picture), pixel_hash(picture)
    except UndecodableError:
        return None


def _has_content(picture: Picture) -> bool:
    """Whether there is anything to decode; what is missing or empty is the survey's fault."""
    source = picture.source
    return (len(source) if isinstance(source, bytes) else file_size(source)) > 0


def _untrained_classes(survey: Survey) -> list[str]:
    """Names of classes that training should show, but has no picture of.

    The officially unseen ones need none, nor does any of a set that is a target alone.
    """
    there = set(survey.splits["train"].labels.tolist())
    seen = survey.class_names[: survey.n_seen]
    return [name for label, name in enumerate(seen) if there and label not in there]
