"""Reads a split_zhou_*.json and finds everything that is wrong with it."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ship.datasets.base import SPLITS, clean_class_name, plain_path, some, spoken
from ship.datasets.faults import same_name_faults
from ship.datasets.survey import read_list

_MOST_CLASSES = 2**31
Entry = tuple[str, int, str]
"""Picture path relative to the image folder, label, class name."""


def read_split_file(split_path: Path) -> tuple[dict[str, list[Entry]], tuple[str, ...], list[str]]:
    """Read {"train"|"val"|"test": [[path, label, class name], ...]}.

    Returns:
        (entries by split, class names by label, faults); the first two can be relied on only
        where there is no fault, and hold what could be read otherwise.
    """
    entries, faults = _parse(split_path)
    class_names, more = _class_names(entries)
    return entries, class_names, faults + more + _leaks(entries)


def _parse(split_path: Path) -> tuple[dict[str, list[Entry]], list[str]]:
    """Entries of the right form, and what is wrong with the others."""
    entries: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    try:
        document: Any = json.loads(read_list(split_path).decode("utf-8"))
    except OSError as why:
        return entries, [f"cannot be read: {why.strerror}"]
    except (ValueError, RecursionError) as why:
        return entries, [f"is not JSON: {why}"]
    if not isinstance(document, dict):
        return entries, [f"must be an object of {', '.join(SPLITS)}, is a {_kind(document)}"]
    faults = []
    for split in SPLITS:
        rows = document.get(split)
        if not isinstance(rows, list) or not rows:
            state = "is missing" if split not in document else f"is {_kind(rows)}"
            faults.append(f"{split} must be a list of [path, label, class name], {state}")
            continue
        entries[split] = [(row[0], row[1], row[2]) for row in rows if _well_formed(row)]
        wrong = [f"{split}[{i}]" for i, row in enumerate(rows) if not _well_formed(row)]
        if wrong:
            faults.append(f"must be [path, label, class name], label an int >= 0: {some(wrong)}")
    return entries, faults


def _well_formed(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], str)
        and type(row[1]) is int  # a bool is an int to isinstance
        and 0 <= row[1] < _MOST_CLASSES
        and isinstance(row[2], str)
        and bool(clean_class_name(row[2]))
    )


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", type(None): "null"}
    empty = isinstance(value, list) and not value
    return "an empty list" if empty else names.get(type(value), type(value).__name__)


def _class_names(entries: Mapping[str, list[Entry]]) -> tuple[tuple[str, ...], list[str]]:
    """Class names by label, and labels or names that do not pair one to one."""
    names: dict[int, set[str]] = defaultdict(set)
    for rows in entries.values():
        for _, label, raw in rows:
            names[label].add(raw)
    faults = []
    gaps = set(range(len(names))) - set(names)
    if gaps:
        faults.append(
            f"labels must be 0 to {len(names) - 1} without gaps, "
            f"but {some(sorted(gaps))} is absent and the highest is {max(names)}"
        )
    faults += [
        f"label {label} has more than one class name: {some(sorted(found))}"
        for label, found in sorted(names.items())
        if len(found) > 1
    ]
    pairs = {(label, spoken(raw)): raw for label in sorted(names) for raw in sorted(names[label])}
    called = [f"{raw} (label {label})" for (label, _), raw in pairs.items()]
    faults += same_name_faults(pairs.values(), called)
    return tuple(clean_class_name(min(names[label])) for label in sorted(names)), faults


def _leaks(entries: Mapping[str, list[Entry]]) -> list[str]:
    """Pictures that stand in two splits: they would be trained on and tested on."""
    seen: dict[str, set[str]] = defaultdict(set)
    for split, rows in entries.items():
        for path, _, _ in rows:
            seen[plain_path(path)].add(split)
    twice = sorted(path for path, splits in seen.items() if len(splits) > 1)
    return [f"pictures in more than one split: {some(twice)}"] if twice else []
