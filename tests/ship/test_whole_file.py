"""Atomic writes: complete files, temporary files and permissions."""

import os
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from ship.whole_file import write_whole


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """No temporary file is left."""
    path = tmp_path / "new" / "memory.json"
    write_whole(path, b"old")

    monkeypatch.setattr(Path, "replace", Mock(side_effect=error))
    with pytest.raises(type(error)):
        write_whole(path, b"new")
    assert [file.name for file in path.parent.iterdir()] == ["memory.json"]
    assert path.read_bytes() == b"old"


def test_abandoned_temporary_files_are_removed_after_an_hour(tmp_path: Path) -> None:
    """A younger file may belong to an active writer and stays."""
    old, young = tmp_path / ".a.safetensors.1.ab.tmp", tmp_path / ".b.safetensors.2.cd.tmp"
    for file, seconds in ((old, 3700), (young, 3500)):
        file.touch()
        os.utime(file, (time.time() - seconds,) * 2)
    write_whole(tmp_path / "c.safetensors", b"whole")
    assert {file.name for file in tmp_path.iterdir()} == {young.name, "c.safetensors"}


def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    """A cache may be shared by a group."""
    before = os.umask(0o002)
    try:
        write_whole(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o664
