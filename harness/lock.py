"""One driver a study: a lock that the kernel lets go of when its holder dies."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.faults import UserError


class StudyBusy(UserError):
    """Another process of this machine runs the same study."""


@contextmanager
def study_lock(uri: str, name: str) -> Iterator[None]:
    """Hold a study (by store and name) for this process.

    Only processes of one machine see each other; two machines that share a store must take care
    themselves.

    Raises:
        StudyBusy: another process holds it; its id is named.
    """
    digest = hashlib.blake2b(f"{uri}\n{name}".encode(), digest_size=8).hexdigest()
    path = Path(tempfile.gettempdir()) / f"ship-sweep-{os.getuid()}-{digest}.lock"
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "?"
            raise StudyBusy(
                f"study {name!r} is being run by process {holder} on the same store"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
