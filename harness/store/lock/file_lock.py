"""One driver a study on one machine: a lock that the kernel lets go of when its holder dies.

Other machines do not see it; for them there is harness.store.lock.lease.
"""

import fcntl
import hashlib
import os
import re
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from harness.errors import UserError
from harness.scratch import no_temporary

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StudyBusy(UserError):
    """Another process runs the same study."""


@contextmanager
def study_lock(uri: str, name: str) -> Iterator[str]:
    """Hold a study (by store and name) for this process.

    Yields:
        The place of the lock: whoever finds the place of their own lock in a lease knows that the
        lease's holder is dead, since they have the lock. It names this start of this host, and the
        very file, which has a number of its own: two containers have the same kernel and perhaps
        the same host name, but not the same file, and a /tmp that two hosts share has one file.
        "" where files cannot be locked.

    Raises:
        StudyBusy: another process of this machine holds it; its id is named.
    """
    with _lock_file(f"{uri}\n{name}") as file:
        locked = _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.seek(0)
        number, _, holder = file.read().partition("\n")
        if locked is False:
            raise StudyBusy(
                f"study {name!r} is being run by process {holder.strip() or '?'} on the same store"
            )
        if not re.fullmatch("[0-9a-f]{32}", number):
            number = uuid.uuid4().hex
        _rewrite(file, f"{number}\n{os.getpid()}")
        try:
            yield f"{socket.gethostname()} {_boot_id()} {number}" if locked else ""
        finally:
            _rewrite(file, f"{number}\n")


@contextmanager
def gate(name: str) -> Iterator[None]:
    """Keep this user's other processes on this machine waiting; the kernel lets go of the dead.

    MLflow's migrations take no lock of their own: of four processes that open a new file at once,
    three fail, and leave it half made.
    """
    with _lock_file(name) as file:
        _lock(file, fcntl.LOCK_EX)
        yield


def _lock_file(name: str) -> IO[str]:
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    try:
        path = Path(tempfile.gettempdir()) / f"ship-sweep-{os.getuid()}-{digest}.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise no_temporary(error) from error
    return os.fdopen(handle, "r+", encoding="ascii", errors="replace")


def _lock(file: IO[str], how: int) -> bool | None:
    """Whether the file is locked now; None where the file system locks none."""
    try:
        fcntl.flock(file, how)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _rewrite(file: IO[str], text: str) -> None:
    """Put a text in a file's place; the first line, once there, is never missing."""
    with suppress(OSError):  # a full disk must not keep a study from ending
        os.pwrite(file.fileno(), text.encode("ascii"), 0)
        os.ftruncate(file.fileno(), len(text))


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
