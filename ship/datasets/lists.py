"""Lists: the files that say which pictures and classes there are, and what classes are called.

They may be somebody else's: what is read is bounded, and what is wrong with it is told, not raised.
"""

import csv
import io
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from ship.datasets.base import SPLITS, Faults, clean_class_name, some, spoken
from ship.whole_file import read_whole

LARGEST_FILE: Final = 1 << 28
"""Bytes of one picture, or of one list of pictures, which are read as a whole."""
SEPARATORS: Final = {".csv": ",", ".txt": " "}
"""Of folder and name in a line of a file of class names, by the file's ending."""
_ROW: Final = "[path, label, class name]"
_MOST_CLASSES: Final = 2**31

Row = tuple[str, str, int]
"""Split, picture path relative to the folder of pictures, label."""


def read_split(path: Path, faults: Faults) -> tuple[list[Row], tuple[str, ...]]:
    """The rows, and the class names by label, of a split file in CoOp's form."""
    rows: list[Row] = []
    named: list[tuple[int, str]] = []
    with faults.reading(path):
        document = read_object(path)
        for split in SPLITS:
            listed = document.get(split)
            if not isinstance(listed, list) or (not listed and split != "val"):
                faults.append(f"{path}: must have a list of {_ROW} called {split}")
                continue
            wrong = [f"{split}[{i}]" for i, row in enumerate(listed) if not _well_formed(row)]
            faults.tell(path, "row", wrong, f"must be {_ROW}, label an int >= 0")
            for picture, label, name in filter(_well_formed, listed):
                rows.append((split, picture, label))
                named.append((label, name))
    return rows, _names_by_label(path, named, faults)


def _well_formed(row: Any) -> bool:
    return (
        isinstance(row, list)
        and [*map(type, row)] == [str, int, str]  # a bool is none of these
        and 0 <= row[1] < _MOST_CLASSES
        and bool(clean_class_name(row[2]))
    )


def _names_by_label(
    path: Path, named: Sequence[tuple[int, str]], faults: Faults
) -> tuple[str, ...]:
    """Class names by label, which must pair one to one."""
    names: dict[int, set[str]] = defaultdict(set)
    for label, name in named:
        names[label].add(name)
    gaps = sorted({*range(len(names))} - {*names})
    faults.tell(path, "label", gaps, f"absent, though labels go up to {max(names, default=0)}")
    many = [
        f"{label} ({some(sorted(own))})" for label, own in sorted(names.items()) if len(own) > 1
    ]
    faults.tell(path, "label", many, "with more than one class name")
    pairs = {(label, spoken(name)): name for label, name in sorted(set(named))}
    called = [f"{name} (label {label})" for (label, _), name in pairs.items()]
    faults.tell_same_names(path, [*pairs.values()], called)
    return tuple(clean_class_name(min(names[label])) for label in sorted(names))


def read_class_names(path: Path, directories: Sequence[str], faults: Faults) -> dict[str, str]:
    """What a file calls the directories.

    Told of are lines of another form, directories that the file lacks or has twice, and those that
    are not there.
    """
    separator = SEPARATORS.get(path.suffix.lower(), "")
    rows: list[list[str]] = []
    with faults.reading(path):
        rows = _rows(path, separator)
    if not rows:
        return {}
    there = {unicodedata.normalize("NFC", own): own for own in directories}
    hidden = [own for own in directories if own not in there.values()]
    faults.tell(path, "folder", hidden, "called as another one, with accents written otherwise")
    fit: list[list[str]] = []
    odd: list[list[str]] = []
    for row in rows:
        if len(row) == 2 and row[0] and clean_class_name(row[1]):
            fit.append(row)
        else:
            odd.append(row)
    faults.tell(path, "line", map(separator.join, odd), f"must be 'folder{separator}name'")
    faults.tell(path, "folder", repeated(own for own, _ in fit), "on more than one line")
    strange = [own for own, _ in fit if own not in there]
    spaced = separator == " " and any(" " in own for own in there)
    hint = " (for folders with spaces, take a .csv file)" if spaced else ""
    faults.tell(path, "name", strange, f"of a folder that is not there{hint}")
    named = {row[0] for row in rows}
    faults.tell(path, "folder", [own for own in there if own not in named], "without a name")
    return {there[own]: clean_class_name(name) for own, name in fit if own in there}


def _rows(path: Path, separator: str) -> list[list[str]]:
    """The cells of each line of a list of class names that is not empty; at least one line.

    Args:
        path: of the list. Where a comma separates, it is CSV, and may begin with "folder,name".
        separator: of SEPARATORS. Where it is a space, the first white space of a line ends the
            folder's name.

    Raises:
        ValueError: it has another ending, cannot be read, or is empty.
    """
    if not separator:
        raise ValueError("must be a .csv or a .txt file")
    text = unicodedata.normalize("NFC", read_text(path))
    rows = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    if separator == ",":
        try:
            lines = csv.reader(io.StringIO(text, newline=""), strict=True)
            cells = [[cell.strip() for cell in row] for row in lines]
        except csv.Error as why:
            raise ValueError(f"is not CSV: {why}") from why
        rows = [row for row in cells if any(row)]
        if rows[:1] == [["folder", "name"]]:
            del rows[0]
    if not rows:
        raise ValueError("is empty")
    return rows


def repeated(items: Iterable[str]) -> list[str]:
    """Items that come more than once, sorted."""
    return sorted(item for item, times in Counter(items).items() if times > 1)


def read_lines(path: Path, faults: Faults) -> list[str]:
    """The non-empty lines of a list, without the space around them; none where it is not sound."""
    lines: list[str] = []
    with faults.reading(path):
        lines = [line.strip() for line in read_text(path).split("\n") if line.strip()]
        if not lines:
            raise ValueError("is empty")
    return lines


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file's object.

    Raises:
        ValueError: it cannot be read, or is something else.
    """
    text = read_text(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as why:
        raise ValueError(f"is not JSON: {why}") from why
    if not isinstance(document, dict):
        raise ValueError("must be a JSON object")
    return document


def read_text(path: Path) -> str:
    """A list's content.

    Raises:
        ValueError: it cannot be read, or is not UTF-8.
    """
    return read_whole(path, LARGEST_FILE).decode("utf-8-sig")
