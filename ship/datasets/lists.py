"""Read list files: images with splits and labels, and class names.

Files are untrusted input: sizes are bounded, and faults are collected instead of raised.
"""

import csv
import io
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ship.datasets.base import SPLITS, Faults, clean_class_name, shorten_list, split_pieces
from ship.whole_file import read_whole

MAX_FILE: Final = 1 << 28
"""Maximum size in bytes of an image or a list, because both are read as a whole."""
SEPARATORS: Final = {".csv": ",", ".txt": " "}
"""Separator of folder and name in a file of class names, by the file's suffix."""
_ROW: Final = "[path, label, class name]"
_MAX_CLASSES: Final = 2**31
_MAX_GAPS: Final = 100_000  # missing labels that are counted
_SEED: Final = re.compile(r"0|[1-9][0-9]{0,8}")

Row = tuple[str, str, int]
"""Split, path of the image relative to the folder of images, label."""


def read_split(path: Path, faults: Faults) -> tuple[list[Row], tuple[str, ...]]:
    """Read the rows and the class names by label from a split file in CoOp's format.

    Args:
        path: Path of the file.
        faults: List that the faults of the file are added to.

    Returns:
        The rows of all splits, and the class names. Both may be incomplete if there are faults.
    """
    rows: list[Row] = []
    label_names: list[tuple[int, str]] = []
    with faults.catch(path):
        document = read_object(path)
        for split in SPLITS:
            entries = document.get(split)
            if not isinstance(entries, list) or (not entries and split != "val"):
                faults.append(f"{path}: {split} must be a list of {_ROW}")
                continue
            bad_rows = [
                f"{split}[{i}]" for i, row in enumerate(entries) if not _is_well_formed(row)
            ]
            faults.add(path, "row", bad_rows, f"must be {_ROW}, label an int >= 0")
            for image, label, name in filter(_is_well_formed, entries):
                rows.append((split, image, label))
                label_names.append((label, name))
    return rows, _collect_class_names(path, label_names, faults)


def read_few_shot(path: Path, faults: Faults) -> dict[int, tuple[str, ...]]:
    """Read the few-shot images of each seed from the key `few_shot` of a split file.

    Args:
        path: Path of the file.
        faults: List that faults of the key are added to. read_split reports all other faults.

    Returns:
        Seed -> paths of its training images, spelled as in `train`. Empty without the key.
    """
    try:
        few_shot = read_object(path).get("few_shot", {})
    except (OSError, ValueError):  # read_split reports them
        return {}
    if not isinstance(few_shot, dict):
        faults.append(f"{path}: few_shot must be an object of seeds and lists of paths")
        return {}
    bad_seeds = [seed for seed in few_shot if not _SEED.fullmatch(seed)]
    faults.add(path, "seed", bad_seeds, "of few_shot, must be a whole number such as 0")
    by_seed = {seed: paths for seed, paths in few_shot.items() if seed not in bad_seeds}
    bad_lists = [seed for seed, paths in by_seed.items() if not _is_text_list(paths)]
    faults.add(path, "seed", bad_lists, "of few_shot, must have a list of paths")
    return {int(seed): tuple(paths) for seed, paths in by_seed.items() if seed not in bad_lists}


def _is_text_list(value: Any) -> bool:
    """Return True for a non-empty list of strings."""
    return isinstance(value, list) and bool(value) and all(type(item) is str for item in value)


def _is_well_formed(row: Any) -> bool:
    """Return True if a row has a path, a valid label and a class name."""
    return (
        isinstance(row, list)
        and [*map(type, row)] == [str, int, str]  # isinstance would accept a bool as an int
        and 0 <= row[1] < _MAX_CLASSES
        and bool(clean_class_name(row[2]))
    )


def _collect_class_names(
    path: Path, label_names: Sequence[tuple[int, str]], faults: Faults
) -> tuple[str, ...]:
    """Return the class names in the order of their labels.

    Labels without a class name, and pairs of label and name that are not one-to-one, are added to
    the faults.
    """
    names: dict[int, set[str]] = defaultdict(set)
    for label, name in label_names:
        names[label].add(name)
    max_label = max(names, default=0)
    gaps = [*islice((label for label in range(max_label) if label not in names), _MAX_GAPS)]
    faults.add(path, "label", gaps, f"missing, although labels go up to {max_label}")
    ambiguous_labels = [
        f"{label} ({shorten_list(sorted(synonyms))})"
        for label, synonyms in sorted(names.items())
        if len(synonyms) > 1
    ]
    faults.add(path, "label", ambiguous_labels, "with more than one class name")
    pairs = {(label, split_pieces(name)): name for label, name in sorted(set(label_names))}
    labels = [f"{name} (label {label})" for (label, _), name in pairs.items()]
    faults.add_same_names(path, [*pairs.values()], labels)
    return tuple(clean_class_name(min(names[label])) for label in sorted(names))


def read_class_names(path: Path, directories: Sequence[str], faults: Faults) -> dict[str, str]:
    """Read the class names of directories from a file.

    Faults are an unreadable file, malformed lines, and directories that are unknown or do not have
    exactly one line.

    Args:
        path: Path of the file.
        directories: Names of the class directories.
        faults: List that the faults of the file are added to.

    Returns:
        Directory -> class name. Directories without a valid line are omitted.
    """
    separator = SEPARATORS.get(path.suffix.lower(), "")
    rows: list[list[str]] = []
    with faults.catch(path):
        rows = _read_cells(path, separator)
    if not rows:
        return {}
    existing = {unicodedata.normalize("NFC", folder): folder for folder in directories}
    duplicates = [folder for folder in directories if folder not in existing.values()]
    faults.add(
        path,
        "folder",
        duplicates,
        "with the name of another one except for the encoding of accents",
    )
    pairs: list[list[str]] = []
    bad_rows: list[list[str]] = []
    for row in rows:
        if len(row) == 2 and row[0] and clean_class_name(row[1]):
            pairs.append(row)
        else:
            bad_rows.append(row)
    faults.add(path, "line", map(separator.join, bad_rows), f"must be 'folder{separator}name'")
    repeats = find_repeated(folder for folder, _ in pairs)
    faults.add(path, "folder", repeats, "on more than one line")
    unknown_folders = [folder for folder, _ in pairs if folder not in existing]
    spaced = separator == " " and any(" " in folder for folder in existing)
    hint = " (for folders with spaces, use a .csv file)" if spaced else ""
    faults.add(path, "name", unknown_folders, f"of a folder that does not exist{hint}")
    listed_folders = {row[0] for row in rows}
    missing_folders = [folder for folder in existing if folder not in listed_folders]
    faults.add(path, "folder", missing_folders, "without a name")
    return {
        existing[folder]: clean_class_name(name) for folder, name in pairs if folder in existing
    }


def _read_cells(path: Path, separator: str) -> list[list[str]]:
    """Read the cells of each non-empty line of a list of class names.

    Args:
        path: Path of the list.
        separator: Separator of SEPARATORS, or "" if the file's suffix is not one of them. "," reads
            CSV, and skips a first line "folder,name". " " splits each line at its first white
            space.

    Raises:
        ValueError: The suffix is not one of SEPARATORS, or the file cannot be read, is not valid
            CSV, or is empty.
    """
    if not separator:
        raise ValueError("must be a .csv or .txt file")
    text = unicodedata.normalize("NFC", read_text(path))
    rows = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    if separator == ",":
        try:
            lines = csv.reader(io.StringIO(text, newline=""), strict=True)
            cells = [[cell.strip() for cell in row] for row in lines]
        except csv.Error as error:
            raise ValueError(f"is not CSV: {error}") from error
        rows = [row for row in cells if any(row)]
        if rows[:1] == [["folder", "name"]]:
            del rows[0]
    if not rows:
        raise ValueError("is empty")
    return rows


def find_repeated(items: Iterable[str]) -> list[str]:
    """Return the items that occur more than once, sorted."""
    return sorted(item for item, count in Counter(items).items() if count > 1)


def read_lines(path: Path, faults: Faults) -> list[str]:
    """Read the non-empty lines of a list, stripped.

    Args:
        path: Path of the list.
        faults: List that the faults of the file are added to.

    Returns:
        The lines. Empty, with a fault, if the file is unreadable or has no such lines.
    """
    lines: list[str] = []
    with faults.catch(path):
        lines = [line.strip() for line in read_text(path).split("\n") if line.strip()]
        if not lines:
            raise ValueError("is empty")
    return lines


def read_object(path: Path) -> dict[str, Any]:
    """Read the object of a JSON file.

    Raises:
        ValueError: The file cannot be read, or does not contain a JSON object.
    """
    text = read_text(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError("must be a JSON object")
    return document


def read_text(path: Path) -> str:
    """Read the text of a UTF-8 file.

    Raises:
        ValueError: The file cannot be read, or is not UTF-8.
    """
    return read_whole(path, MAX_FILE).decode("utf-8-sig")
