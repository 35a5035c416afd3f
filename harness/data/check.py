"""`ship-data check`: everything that can be wrong with a dataset on disk, at once."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ship.datasets import SPLITS, Picture, Survey, UndecodableError, survey_dataset
from ship.datasets.base import number, some
from ship.datasets.content import copy_faults, pixel_hash
from ship.datasets.layouts import counted, repeated, slashed

Contents = Iterable[bytes | None]
"""The hash of what each picture shows, one after the other; None for what cannot be decoded."""
Track = Callable[[Contents, int], Contents]
"""Passes on what it is given and shows progress up to the number."""


@dataclass(frozen=True)
class Check:
    """What a check has found.

    faults: what is wrong, a line each. warnings: in what it is unlike the published dataset, and
        classes that cannot be trained on; it can be used. notes: no mistakes.
    summary: one line with the counts.
    """

    faults: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    summary: str


def check_everything(name: str, data_root: Path | None, quick: bool, track: Track) -> Check:
    """Survey a dataset, compare it with the published one and decode all of its pictures.

    Args:
        quick: leave out the decoding.
        track: shows progress.
    Raises:
        DatasetError: there is no dataset of this name.
    """
    survey = survey_dataset(name, data_root)
    faults = [*survey.faults, *_twice(survey)]
    pictures = list({picture.name: picture for picture in _pictures(survey)}.values())
    if not quick:
        contents = decode([picture for picture in pictures if _has_content(picture)], track)
        pictures = [picture for picture in pictures if contents.get(picture.name)]
        faults += [f"dataset {name}: {fault}" for fault in _content_faults(survey, contents)]
    counts = slashed(counted(survey.splits))
    seen = "" if survey.n_seen is None else f" ({survey.n_seen} seen)"
    decoded = "nothing decoded" if quick else f"{number(pictures, 'picture')} decoded"
    untrained = _untrained_classes(survey)
    warnings = [*survey.unlike, *survey.warnings]
    if untrained:
        lacking = number(untrained, "class")
        warnings.append(f"dataset {name}: no training pictures of {lacking}: {some(untrained)}")
    state = number(faults, "fault") if faults else "sound"
    remarks = ["differs from the published set"] if survey.unlike else []
    remarks += [f"no training pictures of {number(untrained, 'class')}"] if untrained else []
    state += f" ({'; '.join(remarks)})" if remarks else ""
    summary = (
        f"{name}: {counts} pictures (train/val/test) of {len(survey.class_names)} classes{seen}, "
        f"{decoded}: {state}"
    )
    return Check(tuple(faults), tuple(warnings), survey.notes, summary)


def decode(pictures: Sequence[Picture], track: Track) -> dict[str, bytes | None]:
    """By name, the hash of each picture's pixels; None where Pillow cannot decode it whole."""
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))  # decoding releases the GIL
    try:
        hashes = list(track(pool.map(_pixels, pictures), len(pictures)))
    finally:
        pool.shutdown(cancel_futures=True)
    return {picture.name: found for picture, found in zip(pictures, hashes, strict=True)}


def _pixels(picture: Picture) -> bytes | None:
    try:
        return pixel_hash(picture)
    except UndecodableError:
        return None


def _content_faults(survey: Survey, contents: Mapping[str, bytes | None]) -> list[str]:
    """Pictures that cannot be decoded, and those that two splits share."""
    broken = [name for name, content in contents.items() if content is None]
    faults = [f"{number(broken, 'undecodable picture')}: {some(broken)}"] if broken else []
    sound = {name: content for name, content in contents.items() if content is not None}
    by_split = {
        split: {p.name: sound[p.name] for p in survey.splits[split].pictures if p.name in sound}
        for split in SPLITS
    }
    return faults + copy_faults(by_split)


def _pictures(survey: Survey) -> Iterator[Picture]:
    for split in SPLITS:
        yield from survey.splits[split].pictures


def _has_content(picture: Picture) -> bool:
    """Whether there is anything to decode; what is missing or empty is the survey's fault."""
    if isinstance(picture.source, bytes):
        return bool(picture.source)
    try:
        return picture.source.is_file() and picture.source.stat().st_size > 0
    except OSError:
        return False


def _untrained_classes(survey: Survey) -> list[str]:
    """Names of classes that training should show, but has no picture of.

    The officially unseen ones need none, nor does any of a set that is a target alone.
    """
    there = set(survey.splits["train"].labels.tolist())
    seen = survey.class_names[: survey.n_seen]
    return [name for label, name in enumerate(seen) if there and label not in there]


def _twice(survey: Survey) -> list[str]:
    """Pictures listed more than once in a split."""
    by_split = {
        split: repeated(picture.name for picture in survey.splits[split].pictures)
        for split in SPLITS
    }
    return [
        f"{number(names, 'picture')} more than once in {split}: {some(names)}"
        for split, names in by_split.items()
        if names
    ]
