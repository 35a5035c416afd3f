"""One driver a study on one machine: a lock that the kernel lets go of when its holder dies.

Other machines do not see it; for them there is harness.store.lease.
"""

import fcntl
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError
from harness.scratch import no_temporary

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StudyBusy(UserError):
    """Another process runs the same study."""


@contextmanager
def locked(name: str, *, wait: bool) -> Iterator[str]:
    """Hold a name among this user's processes on this machine.

    Args:
        name: what is held, e.g. a store and a study.
        wait: for whoever holds it.

    Yields:
        The place of the lock: whoever finds the place of their own lock in a lease knows that the
        lease's holder is dead, since they have the lock. It names this start of this host, and the
        very file: two containers have the same kernel and perhaps the same host name, but not the
        same file, and a /tmp that two hosts share has one file. "" where files cannot be locked.

    Raises:
        BlockingIOError: another process holds it, and is not waited for.
        UserError: the folder for temporary files cannot be used.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    try:
        path = Path(tempfile.gettempdir()) / f"ship-sweep-{os.getuid()}-{digest}.lock"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise no_temporary(error) from error
    try:
        about = os.fstat(file)
        place = f"{socket.gethostname()} {_boot_id()} {about.st_dev}:{about.st_ino}"
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if not wait and isinstance(error, BlockingIOError | PermissionError):
                raise BlockingIOError(*error.args) from error
            place = ""
        yield place
    finally:
        os.close(file)


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
