"""Locks and temporary folders: removed with their process, or by the next study."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.machine import SCRATCH_PREFIX, hold_lock, remove_stale_folders, scratch_folder

KILLED = """
import os, signal
from harness.machine import scratch_folder
with scratch_folder() as folder:
    (folder / "file").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_uncreatable_temporary_folder_is_one_line_error(place: Path) -> None:
    """For folders and locks; the line says what to change."""
    gone = place / "gone"
    tempfile.tempdir = str(gone)
    line = f"{gone}/ship-sweep-.*: cannot be created: No such file or directory. Set TMPDIR"
    with pytest.raises(UserError, match=line), scratch_folder():
        pass
    with pytest.raises(UserError, match=line), hold_lock("small", wait=True):
        pass
    remove_stale_folders()


def test_only_folders_of_killed_processes_are_removed(place: Path) -> None:
    """Files, links and other folders with that prefix stay."""
    code = subprocess.run([sys.executable, "-c", KILLED]).returncode
    assert code == -signal.SIGKILL
    (left,) = place.iterdir()
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (place / f"{SCRATCH_PREFIX}link").symlink_to(elsewhere)
    (place / f"{SCRATCH_PREFIX}file").touch()
    with scratch_folder() as living:
        remove_stale_folders()
        assert living.is_dir()
    assert not left.exists()
    names = {"elsewhere", f"{SCRATCH_PREFIX}link", f"{SCRATCH_PREFIX}file"}
    assert {path.name for path in place.iterdir()} == names
    assert (elsewhere / "file").exists()


def test_folder_for_sockets_has_a_short_path(
    place: Path, ray_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In RAY_TMPDIR or /tmp, and the next study removes it there, too."""
    longest = len(str(ray_folder)) + len(f"/{SCRATCH_PREFIX}12345678")
    assert len(str(place)) > len(str(ray_folder))
    with scratch_folder(longest) as folder:
        assert folder.parent == Path("/tmp")
        assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("RAY_TMPDIR", str(ray_folder))
    with scratch_folder(longest) as folder:
        assert folder.parent == ray_folder
    with scratch_folder(longest - 1) as folder:
        assert folder.parent == Path("/tmp")
    left = ray_folder / f"{SCRATCH_PREFIX}left"
    left.mkdir()
    remove_stale_folders()
    assert not left.exists()


def test_second_lock_holder_is_refused() -> None:
    """Another name is free, and so is this one afterwards."""
    with hold_lock("small", wait=False):
        with pytest.raises(BlockingIOError):
            hold_lock("small", wait=False).__enter__()
        with hold_lock("other", wait=False):
            pass
    with hold_lock("small", wait=False):
        pass


@pytest.mark.parametrize("kind", ["link", "lax mode", "another user"])
def test_lock_folder_of_another_user_is_refused(place: Path, kind: str) -> None:
    """That user could hold the locks and stop every study."""
    folder = place / f"ship-sweep-{os.getuid()}"
    if kind == "link":
        folder.symlink_to(place)
    else:
        folder.mkdir(mode=0o700)
    if kind == "lax mode":
        folder.chmod(0o770)
    if kind == "another user":
        if os.getuid():
            pytest.skip("only root can make a folder of another user")
        os.chown(folder, 65534, 65534)
    with pytest.raises(UserError, match=f"^{folder}: locks need a folder .* set TMPDIR"):
        hold_lock("small", wait=True).__enter__()
    assert not list(place.glob("**/*.lock"))
