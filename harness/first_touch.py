"""Processes that open the same sqlite store take turns while MLflow makes its schema."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Wait for the other processes of this user on this machine; the kernel lets go of the dead.

    MLflow's migrations take no lock of their own: of four processes that open a new file at once,
    three fail, and leave it half made.
    """
    digest = hashlib.blake2b(str(path.resolve()).encode(), digest_size=8).hexdigest()
    name = f"ship-sweep-{os.getuid()}-{digest}.opening"
    with (Path(tempfile.gettempdir()) / name).open("a", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
