"""Damaged datasets and their messages: the cases of fault_cases.yaml."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ship.datasets import DatasetError, scan_dataset
from tests.case_files import load_cases, set_value
from tests.patterns import match_lines
from tests.ship.datasets.conftest import SPLIT_FILE, save_image
from tests.ship.datasets.trees import LAYOUTS, XLSA, mats

CASES: list[dict[str, Any]] = load_cases(__file__, "fault_cases.yaml")


def removed(path: Path) -> None:
    """Remove a file or a folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def piped(path: Path) -> None:
    """Replace a file by a pipe without a writer."""
    path.unlink()
    os.mkfifo(path)


def written(path: Path, text: str) -> None:
    """Replace the content of a file by a text."""
    path.write_text(text, encoding="utf-8")


def appended(path: Path, lines: str) -> None:
    """Append lines to a list."""
    written(path, f"{path.read_text(encoding='utf-8')}{lines}\n")


def replaced(path: Path, texts: list[str]) -> None:
    """Replace texts in a file."""
    content = path.read_text(encoding="utf-8")
    assert texts[0] in content
    written(path, content.replace(*texts))


def holed(path: Path, size: int) -> None:
    """Make a sparse file of this size."""
    with path.open("wb") as file:
        file.truncate(size)


def split_edited(root: Path, edits: dict[str, Any]) -> None:
    """Edit values of CoOp's split file."""
    path = root / "caltech-101" / SPLIT_FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    for place, value in edits.items():
        set_value(document, place, value)
    written(path, json.dumps(document, ensure_ascii=False))


def mats_edited(root: Path, edits: dict[str, Any]) -> None:
    """Edit values of AWA2's MATLAB files. PREFIX is the authors' image folder."""
    folder, _, *rest = XLSA["awa2"]
    result = mats(*rest)
    for place, value in edits.items():
        if isinstance(value, str):
            value = value.replace("PREFIX", rest[-1])
        set_value(result, place, np.array(value["array"]) if isinstance(value, dict) else value)
    result.save(root / "xlsa17/data" / folder)


ONE: dict[str, Callable[[Path], None]] = {
    "remove": removed,
    "pipe": piped,
    "folders": Path.mkdir,
    "images": save_image,
}
"""What is done to each path of a list."""
EACH: dict[str, Callable[[Path, Any], Any]] = {
    "write": written,
    "append": appended,
    "replace": replaced,
    "hole": holed,
    "bytes": lambda path, digits: path.write_bytes(bytes.fromhex(digits)),
    "cut": lambda path, size: path.write_bytes(path.read_bytes()[:size]),
    "repeat": lambda path, text: written(path, text[0] * text[1]),
    "link": lambda path, target: path.symlink_to(path.parents[1] / target),
}
"""What is done to each path of a mapping, with its value."""
WHOLE = {"split": split_edited, "mats": mats_edited}


def spoil(root: Path, case: dict[str, Any]) -> None:
    """Apply the steps of a case in order."""
    for what, settings in case.items():
        if what in WHOLE:
            WHOLE[what](root, settings)
        elif what in ONE:
            for path in settings:
                ONE[what](root / path)
        elif what in EACH:
            for path, value in settings.items():
                EACH[what](root / path, value)
        else:
            assert what in ("case", "tree", "name", "root", "faults"), what


def list_faults(root: Path, case: dict[str, Any]) -> list[str]:
    """Return the faults of a case, with ROOT for the data root."""
    below = case.get("root", ".")
    try:
        faults = scan_dataset(case.get("name", case["tree"]), below and root / below).faults
    except DatasetError as error:
        faults = error.faults
    return [fault.replace(str(root), "ROOT") for fault in faults]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['tree']}: {case['case']}")
def test_each_fault_is_one_line(tmp_path: Path, case: dict[str, Any]) -> None:
    """The line has the file and the fault, and there are no other lines."""
    LAYOUTS[case["tree"]](tmp_path)
    spoil(tmp_path, case)
    lines = list_faults(tmp_path, case)
    assert all(line.isprintable() and len(line) < 2000 for line in lines)
    assert match_lines(lines, case["faults"].splitlines()), lines
