"""Read the files that list a dataset's images, with splits and labels, or its class names.

The files are untrusted input, so their sizes are bounded. Functions with a parameter `faults` add
the faults of a file to it, so that all can be reported at once. The other functions raise
ValueError.
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

MAX_FILE_BYTES: Final = 1 << 28
"""Maximum size of an image or a list, because both are read as a whole."""
SEPARATORS: Final = {".csv": ",", ".txt": " "}
"""Separator between folder and class name in a file of class names, by the file's suffix."""
_ROW: Final = "[path, label, class name]"
_MAX_LABEL: Final = 2**31 - 1
_MAX_MISSING_LABELS: Final = 100_000  # the search for missing labels ends after this many
_SEED_PATTERN: Final = re.compile(r"0|[1-9][0-9]{0,8}")

Row = tuple[str, str, int]
"""Split, path of the image relative to the folder of images, label."""


def read_split(path: Path, faults: Faults) -> tuple[list[Row], tuple[str, ...]]:
    """Read the rows and the class names from a split file in CoOp's format.

    This is a JSON object whose keys "train", "val" and "test" have lists of [path, label, class
    name]. Only "val" may be empty.

    Args:
        path: Path of the file.
        faults: List that the faults of the file are added to.

    Returns:
        The rows of all splits, and the class names in the order of their labels. Both may be
        incomplete if there are faults.
    """
    rows: list[Row] = []
    label_names: list[tuple[int, str]] = []
    with faults.add_errors(path):
        document = read_json_object(path)
        for split in SPLITS:
            entries = document.get(split)
            may_be_empty = split == "val"
            if not isinstance(entries, list) or not (entries or may_be_empty):
                list_type = "a list" if may_be_empty else "a non-empty list"
                faults.append(f"{path}: {split} must be {list_type} of {_ROW}")
                continue
            bad_rows = [
                f"{split}[{i}]" for i, row in enumerate(entries) if not _is_well_formed(row)
            ]
            rule = f"with an integer label from 0 to {_MAX_LABEL} and a non-empty name"
            faults.add(path, "row", bad_rows, f"must be {_ROW} {rule}")
            for image, label, name in filter(_is_well_formed, entries):
                rows.append((split, image, label))
                label_names.append((label, name))
    return rows, _collect_class_names(path, label_names, faults)


def read_few_shot(path: Path, faults: Faults) -> dict[int, tuple[str, ...]]:
    """Read the few-shot images of each seed from the key `few_shot` of a split file.

    Args:
        path: Path of the file.
        faults: List that faults of the key are added to. Other faults of the file are ignored,
            because read_split reports them.

    Returns:
        Seed -> paths of its training images, as written in the file. `Faults.add_few_shot` checks
        that `train` contains them. Empty if the file has no such key or is invalid.
    """
    try:
        few_shot = read_json_object(path).get("few_shot", {})
    except ValueError:
        return {}
    if not isinstance(few_shot, dict):
        faults.append(
            f"{path}: few_shot must be a JSON object that maps each seed to a list of paths"
        )
        return {}
    bad_keys = [key for key in few_shot if not _SEED_PATTERN.fullmatch(key)]
    advice = "(use 0 to 999999999, without leading zeros)"
    faults.add(path, "invalid seed of few_shot", bad_keys, advice)
    by_seed = {seed: paths for seed, paths in few_shot.items() if seed not in bad_keys}
    bad_seeds = [seed for seed, paths in by_seed.items() if not _is_text_list(paths)]
    faults.add(path, "seed of few_shot", bad_seeds, "without a non-empty list of paths")
    return {int(seed): tuple(paths) for seed, paths in by_seed.items() if seed not in bad_seeds}


def _is_text_list(value: Any) -> bool:
    """Return True for a non-empty list of strings."""
    return isinstance(value, list) and bool(value) and all(type(item) is str for item in value)


def _is_well_formed(row: Any) -> bool:
    """Return True if a row is a list of a path, a valid label and a class name."""
    return (
        isinstance(row, list)
        and [*map(type, row)] == [str, int, str]  # isinstance would accept a bool as an int
        and 0 <= row[1] <= _MAX_LABEL
        and bool(clean_class_name(row[2]))
    )


def _collect_class_names(
    path: Path, label_names: Sequence[tuple[int, str]], faults: Faults
) -> tuple[str, ...]:
    """Return the class names in the order of their labels.

    Faults are missing labels, labels with several names, and names that CLIP reads as empty or as
    equal to the name of another label.

    Args:
        path: Path of the split file, for messages.
        label_names: Label and class name of each row.
        faults: List that the faults are added to.
    """
    names_by_label: dict[int, set[str]] = defaultdict(set)
    for label, name in label_names:
        names_by_label[label].add(name)
    max_label = max(names_by_label, default=0)
    missing_labels = (label for label in range(max_label) if label not in names_by_label)
    listed_labels = [*islice(missing_labels, _MAX_MISSING_LABELS)]
    faults.add(path, "label", listed_labels, f"missing, although labels go up to {max_label}")
    ambiguous_labels = [
        f"{label} ({shorten_list(sorted(names))})"
        for label, names in sorted(names_by_label.items())
        if len(names) > 1
    ]
    faults.add(path, "label", ambiguous_labels, "with more than one class name")
    # If CLIP reads several names of one label as equal, only one of them is checked. Otherwise they
    # would be reported as names of different classes.
    name_by_key = {(label, split_pieces(name)): name for label, name in sorted(set(label_names))}
    descriptions = [f"{name} (label {label})" for (label, _), name in name_by_key.items()]
    faults.add_same_names(path, [*name_by_key.values()], descriptions)
    return tuple(clean_class_name(min(names_by_label[label])) for label in sorted(names_by_label))


def read_class_names(path: Path, folders: Sequence[str], faults: Faults) -> dict[str, str]:
    """Read the class names of folders from a file with lines "FOLDER,NAME" or "FOLDER NAME".

    Faults are

    - a file that cannot be read or is empty, and malformed lines;
    - folders on several lines or on none;
    - lines with a folder that does not exist;
    - folders whose names differ only in Unicode normalization, since a line could mean either.

    Args:
        path: Path of the file. Its suffix determines the separator, see SEPARATORS.
        folders: Names of the class folders.
        faults: List that the faults of the file are added to.

    Returns:
        Folder -> class name. Folders without a valid line are omitted.
    """
    separator = SEPARATORS.get(path.suffix.lower(), "")
    rows: list[list[str]] = []
    with faults.add_errors(path):
        rows = _read_cells(path, separator)
    if not rows:
        return {}
    # Some file systems decompose accents in file names, so folders are looked up in composed form.
    folder_by_nfc = {unicodedata.normalize("NFC", folder): folder for folder in folders}
    duplicates = [folder for folder in folders if folder not in folder_by_nfc.values()]
    rule = "whose name differs from another's only in the Unicode form of its accents"
    faults.add(path, "folder", duplicates, rule)
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
    unknown_folders = [folder for folder, _ in pairs if folder not in folder_by_nfc]
    has_spaces = any(" " in folder for folder in folder_by_nfc)
    hint = "(for folders with spaces, use a .csv file)" if separator == " " and has_spaces else ""
    faults.add(path, "unknown folder", unknown_folders, hint)
    listed_folders = {row[0] for row in rows}
    missing_folders = [folder for folder in folder_by_nfc if folder not in listed_folders]
    faults.add(path, "folder", missing_folders, "without a name")
    return {
        folder_by_nfc[folder]: clean_class_name(name)
        for folder, name in pairs
        if folder in folder_by_nfc
    }


def _read_cells(path: Path, separator: str) -> list[list[str]]:
    """Read the cells of each non-empty line of a file of class names, in composed form (NFC).

    Args:
        path: Path of the file.
        separator: "," if the file is CSV. A first line "folder,name" is then skipped. " " if each
            line is to be split at its first white space. "" if the suffix is not in SEPARATORS.

    Raises:
        ValueError: The suffix is not in SEPARATORS, or the file cannot be read, is not valid CSV,
            or is empty.
    """
    if not separator:
        raise ValueError("must be a .csv or .txt file")
    text = unicodedata.normalize("NFC", read_text(path))
    if separator == ",":
        try:
            lines = csv.reader(io.StringIO(text, newline=""), strict=True)
            cells = [[cell.strip() for cell in row] for row in lines]
        except csv.Error as error:
            raise ValueError(f"is not CSV: {error}") from error
        rows = [row for row in cells if any(row)]
        if rows[:1] == [["folder", "name"]]:
            del rows[0]
    else:
        rows = [line.split(maxsplit=1) for line in _split_lines(text)]
    if not rows:
        raise ValueError("is empty")
    return rows


def _split_lines(text: str) -> list[str]:
    """Return the non-empty lines of a text, stripped.

    Lines end with \\n, \\r\\n or \\r. str.splitlines would also split at e.g. \\x85.
    """
    return [line.strip() for line in io.StringIO(text, newline=None) if line.strip()]


def find_repeated(items: Iterable[str]) -> list[str]:
    """Return each item that occurs more than once, sorted."""
    return sorted(item for item, count in Counter(items).items() if count > 1)


def read_lines(path: Path, faults: Faults) -> list[str]:
    """Read the non-empty lines of a list, stripped.

    Args:
        path: Path of the list.
        faults: List that the faults of the file are added to.

    Returns:
        The lines. If the file cannot be read or has no such lines, a fault and an empty list.
    """
    lines: list[str] = []
    with faults.add_errors(path):
        lines = _split_lines(read_text(path))
        if not lines:
            raise ValueError("is empty")
    return lines


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that contains a JSON object.

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
    """Read the text of a UTF-8 file, without its byte order mark.

    Raises:
        ValueError: The file cannot be read, has more than MAX_FILE_BYTES, or is not UTF-8.
    """
    return read_whole(path, MAX_FILE_BYTES).decode("utf-8-sig")
