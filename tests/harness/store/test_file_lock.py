"""The lock of one machine: who holds it, and which lock it is."""

import os
import tempfile
from pathlib import Path

import pytest

from harness.store.lock import file_lock as lock
from harness.store.lock.file_lock import StudyBusy, study_lock


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where locks lie."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_second_holder_is_refused_and_the_first_named() -> None:
    """Another study is free, and so is this one afterwards."""
    with study_lock("uri", "small"):
        with pytest.raises(StudyBusy, match=f"'small' is being run by process {os.getpid()} "):
            study_lock("uri", "small").__enter__()
        with study_lock("uri", "other"), study_lock("elsewhere", "small"):
            pass
    with study_lock("uri", "small"):
        pass


def test_a_place_is_one_file_in_one_start_of_one_host(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same lock again has the same place; a new file, another study or another boot has not."""
    with study_lock("uri", "small") as first:
        pass
    with study_lock("uri", "small") as again, study_lock("uri", "other") as other:
        assert again == first != other
    with monkeypatch.context() as patch:
        patch.setattr(lock, "BOOT_ID", folder / "none")
        with study_lock("uri", "small") as booted:
            assert booted != first
    for file in folder.glob("*.lock"):
        file.unlink()
    with study_lock("uri", "small") as anew:
        assert anew != first


def test_files_that_cannot_be_locked_have_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the lease alone keeps others away."""

    def flock(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with study_lock("uri", "small") as place:
        assert place == ""
