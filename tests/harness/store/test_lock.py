"""The lock of one machine: who holds it, and which lock it is."""

import tempfile
from pathlib import Path

import pytest

from harness.store import lock
from harness.store.lock import locked


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where locks lie."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_second_holder_is_refused() -> None:
    """Another name is free, and so is this one afterwards."""
    with locked("small", wait=False):
        with pytest.raises(BlockingIOError):
            locked("small", wait=False).__enter__()
        with locked("other", wait=False):
            pass
    with locked("small", wait=False):
        pass


def test_a_place_is_one_file_in_one_start_of_one_host(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same lock again has the same place; another name or another boot has not."""
    with locked("small", wait=False) as first:
        pass
    with locked("small", wait=False) as again, locked("other", wait=False) as other:
        assert again == first != other
    monkeypatch.setattr(lock, "BOOT_ID", folder / "none")
    with locked("small", wait=False) as booted:
        assert booted != first


def test_files_that_cannot_be_locked_have_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the lease alone keeps others away. Some file systems say that one is held by EACCES."""
    errors = [OSError(38, "Function not implemented"), PermissionError(13, "Permission denied")]

    def flock(*_: object) -> None:
        raise errors[0]

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with locked("small", wait=True) as place:
        assert place == ""
    errors.pop(0)
    with pytest.raises(BlockingIOError):
        locked("small", wait=False).__enter__()
