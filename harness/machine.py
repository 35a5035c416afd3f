"""What a process has of its machine for a while: variables, locks and temporary folders."""

import fcntl
import hashlib
import logging
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from harness.errors import UserError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PREFIX = "ship-sweep-scratch-"
_RANDOM: Final = 8  # characters that tempfile.mkdtemp appends
_SHORT: Final = "/tmp"  # where Ray puts its files by itself


@contextmanager
def environment(settings: Mapping[str, str], *, over: bool = False) -> Iterator[None]:
    """Environment variables for a while, then it is all as before.

    Args:
        settings: name -> value.
        over: whether they replace what the user has set; else that stays.
    """
    chosen = {name: value for name, value in settings.items() if over or name not in os.environ}
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def quiet(*names: str, level: int = logging.CRITICAL) -> Iterator[None]:
    """Loggers that say nothing below a level for a while."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)


@contextmanager
def locked(name: str, *, wait: bool) -> Iterator[str]:
    """Hold a name among this user's processes on this machine; the kernel lets go of a dead one's.

    Other machines do not see it; for them there is harness.store.lease.

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
        UserError: the folder for temporary files, or of locks in it, cannot be used.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    try:
        with _lock_folder() as folder:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(f"{digest}.lock", flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise no_temporary(error) from error
    try:
        about = os.fstat(file)
        boot = BOOT_ID.read_text(encoding="ascii").strip() if BOOT_ID.exists() else ""
        place = f"{socket.gethostname()} {boot} {about.st_dev}:{about.st_ino}"
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if not wait and isinstance(error, BlockingIOError | PermissionError):
                raise BlockingIOError(*error.args) from error
            place = ""
        yield place
    finally:
        os.close(file)


@contextmanager
def _lock_folder() -> Iterator[int]:
    """Open this user's folder of lock files in the shared folder for temporary files.

    Other users can guess its name, and the names in it. They cannot put a file into it, which they
    could lock first.

    Yields:
        A descriptor of the folder.

    Raises:
        OSError: The folder cannot be made or opened.
        UserError: Other users can write to it, or it is a link.
    """
    folder = Path(tempfile.gettempdir()) / f"ship-sweep-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not is_private or status.st_uid != os.getuid():
        mode = f"{stat.filemode(status.st_mode)} of user {status.st_uid}"
        raise UserError(
            f"{folder}: locks need a folder that only user {os.getuid()} can use, got {mode}. "
            f"Remove it, or set TMPDIR to another folder"
        )
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def scratch(longest: int | None = None) -> Iterator[Path]:
    """A temporary folder of this user alone (mode 0700), which is removed at the end.

    It is locked as long as its process lives; that of a dead process is not (remove_left).

    Args:
        longest: bytes that its path may have, as sockets will lie in it. It then lies where Ray
            would put its files, RAY_TMPDIR or TMPDIR, or in /tmp where those have longer names.

    Raises:
        UserError: it cannot be made; one line.
    """
    place = None if longest is None else _short_place(longest - len(f"/{PREFIX}") - _RANDOM)
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
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
        for place in set(_places()):
            for folder in Path(place).glob(f"{PREFIX}*"):
                with suppress(OSError):
                    _remove_if_dead(folder)


def _places() -> list[str]:
    """Where scratch() makes its folders, in the order in which it would put sockets there."""
    return [*filter(None, [os.environ.get("RAY_TMPDIR")]), tempfile.gettempdir(), _SHORT]


def _short_place(most: int) -> str | None:
    """The first folder for scratch() whose path has at most so many bytes; None: there is none."""
    short = (place for place in _places() if len(os.fsencode(place)) <= most)
    return next((place for place in short if Path(place).is_dir()), None)


def _remove_if_dead(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(handle).st_uid == os.getuid():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
    finally:
        os.close(handle)
