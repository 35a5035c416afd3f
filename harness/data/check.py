"""`ship-data check`: everything that can be wrong with a dataset on disk, at once."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ship.datasets import SPLITS, Picture, Survey, survey_dataset
from ship.datasets.base import number, some
from ship.datasets.survey import counted, repeated, slashed, untrained_classes

Track = Callable[[Iterable[bool], int], Iterable[bool]]
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
    broken: list[str] = []
    if not quick:
        pictures = [picture for picture in pictures if _has_content(picture)]
        broken = undecodable(pictures, track)
    if broken:
        bad = set(broken)
        pictures = [picture for picture in pictures if picture.name not in bad]
        faults.append(f"dataset {name}: {number(broken, 'undecodable picture')}: {some(broken)}")
    counts = slashed(counted(survey.splits))
    seen = "" if survey.n_seen is None else f" ({survey.n_seen} seen)"
    decoded = "nothing decoded" if quick else f"{number(pictures, 'picture')} decoded"
    untrained = untrained_classes(survey)
    warnings = list(survey.unlike)
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


def undecodable(pictures: Sequence[Picture], track: Track) -> list[str]:
    """Names of the pictures that Pillow cannot decode whole, in their order."""
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))  # decoding releases the GIL
    try:
        sound = list(track(_sound(pool, pictures), len(pictures)))
    finally:
        pool.shutdown(cancel_futures=True)
    return [picture.name for picture, fine in zip(pictures, sound, strict=True) if not fine]


def _sound(pool: ThreadPoolExecutor, pictures: Sequence[Picture]) -> Iterator[bool]:
    yield from pool.map(_decodes, pictures)


def _decodes(picture: Picture) -> bool:
    try:
        picture.open()
    except Exception:  # Pillow raises nearly anything for broken bytes
        return False
    return True


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
