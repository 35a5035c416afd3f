"""Temporary folders that go at their process's end or, where it was killed, with the next study."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import UserError

PREFIX = "ship-sweep-scratch-"


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder, which is removed at the end.

    It is locked as long as its process lives; that of a dead process is not (remove_left).

    Raises:
        UserError: it cannot be made; one line.
    """
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        except OSError as error:  # a full disk, or no folder that can be written to
            raise no_temporary(error) from error
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with suppress(OSError):  # a file system that locks nothing: remove_left leaves it alone
            fcntl.flock(handle, fcntl.LOCK_EX)
        if folder.exists():  # else another process took it for a dead one's before it was locked
            break
        os.close(handle)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def no_temporary(error: OSError) -> UserError:
    """Why the folder for temporary files cannot be used, as one line."""
    what = error.filename or "temporary files"
    why = error.strerror or error
    return UserError(f"{what}: cannot be made: {why} (TMPDIR names another folder)")


def remove_left() -> None:
    """Remove the folders of this user's processes that were killed; raises nothing."""
    with suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with suppress(OSError):
                _remove_if_dead(folder)


def _remove_if_dead(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(handle).st_uid == os.getuid():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
    finally:
        os.close(handle)
