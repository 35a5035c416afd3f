"""Readers of lists of images and of class names."""

from pathlib import Path

import pytest

from ship.datasets.base import Faults
from ship.datasets.lists import read_class_names, read_lines


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lists_of_all_kinds_have_the_same_lines(tmp_path: Path, ending: str) -> None:
    """A separator of lines in Unicode, such as U+2028, is only white space."""
    path, faults = tmp_path / "class_names.txt", Faults()
    path.write_bytes(f"dog a\u2028hound {ending}{ending}cat tabby{ending}".encode())
    assert read_lines(path, faults) == ["dog a\u2028hound", "cat tabby"]
    names = read_class_names(path, ["dog", "cat"], faults)
    assert names == {"dog": "a hound", "cat": "tabby"} and not faults
