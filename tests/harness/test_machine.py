"""Locks and temporary folders are removed with their process, or by the next study."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.machine import SCRATCH_PREFIX, hold_lock, remove_stale_folders, scratch_folder

KILLED_SCRIPT = """
import os, signal
from harness.machine import scratch_folder
with scratch_folder() as folder:
    (folder / "file").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_uncreatable_temporary_folder_is_one_line_error(temporary_folder: Path) -> None:
    """Folders and locks have the same message, which names the variable to set."""
    missing = temporary_folder / "missing"
    tempfile.tempdir = str(missing)
    line = f"{missing}/ship-sweep-.*: cannot be created: No such file or directory. Set TMPDIR"
    with pytest.raises(UserError, match=line), scratch_folder():
        pass
    with pytest.raises(UserError, match=line), hold_lock("small", wait=True):
        pass
    remove_stale_folders()


def test_only_folders_of_killed_processes_are_removed(temporary_folder: Path) -> None:
    """Files and links with the same prefix, folders in use and other folders are kept."""
    code = subprocess.run([sys.executable, "-c", KILLED_SCRIPT]).returncode
    assert code == -signal.SIGKILL
    (stale,) = temporary_folder.iterdir()
    other = temporary_folder / "other"
    other.mkdir()
    (other / "file").touch()
    (temporary_folder / f"{SCRATCH_PREFIX}link").symlink_to(other)
    (temporary_folder / f"{SCRATCH_PREFIX}file").touch()
    with scratch_folder() as used:
        remove_stale_folders()
        assert used.is_dir()
    assert not stale.exists()
    names = {"other", f"{SCRATCH_PREFIX}link", f"{SCRATCH_PREFIX}file"}
    assert {path.name for path in temporary_folder.iterdir()} == names
    assert (other / "file").exists()


def test_folder_for_sockets_has_a_short_path(
    temporary_folder: Path, ray_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in RAY_TMPDIR or /tmp, where the next study removes stale ones, too."""
    max_length = len(str(ray_folder)) + len(f"/{SCRATCH_PREFIX}12345678")
    assert len(str(temporary_folder)) > len(str(ray_folder))
    with scratch_folder(max_length) as folder:
        assert folder.parent == Path("/tmp")
        assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("RAY_TMPDIR", str(ray_folder))
    with scratch_folder(max_length) as folder:
        assert folder.parent == ray_folder
    with scratch_folder(max_length - 1) as folder:
        assert folder.parent == Path("/tmp")
    stale = ray_folder / f"{SCRATCH_PREFIX}stale"
    stale.mkdir()
    remove_stale_folders()
    assert not stale.exists()


def test_second_lock_holder_is_refused() -> None:
    """A lock with another name is available, and so is this one after its release."""
    with hold_lock("small", wait=False):
        with pytest.raises(BlockingIOError):
            hold_lock("small", wait=False).__enter__()
        with hold_lock("other", wait=False):
            pass
    with hold_lock("small", wait=False):
        pass


@pytest.mark.parametrize("kind", ["link", "lax mode", "another user"])
def test_lock_folder_of_another_user_is_refused(temporary_folder: Path, kind: str) -> None:
    """Its owner could hold the locks and so block every study."""
    folder = temporary_folder / f"ship-sweep-{os.getuid()}"
    if kind == "link":
        folder.symlink_to(temporary_folder)
    else:
        folder.mkdir(mode=0o700)
    if kind == "lax mode":
        folder.chmod(0o770)
    if kind == "another user":
        if os.getuid():
            pytest.skip("only root can create a folder of another user")
        os.chown(folder, 65534, 65534)
    with pytest.raises(UserError, match=f"^{folder}: locks need a folder .* set TMPDIR"):
        hold_lock("small", wait=True).__enter__()
    assert not list(temporary_folder.glob("**/*.lock"))
