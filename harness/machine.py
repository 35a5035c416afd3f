"""Context managers for a process's environment variables, locks and temporary folders."""

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
_SUFFIX_LENGTH: Final = 8  # characters that tempfile.mkdtemp appends
_SHORTEST_PARENT: Final = "/tmp"  # Ray's default folder


@contextmanager
def set_environment(settings: Mapping[str, str], *, override: bool = False) -> Iterator[None]:
    """Set environment variables inside the context, and restore them afterwards.

    Args:
        settings: Name -> value.
        override: Whether to replace variables that are already set.
    """
    variables = {
        name: value for name, value in settings.items() if override or name not in os.environ
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def silence_loggers(*names: str, level: int = logging.CRITICAL) -> Iterator[None]:
    """Raise the level of loggers inside the context.

    Args:
        names: Names of the loggers.
        level: Level below which they log nothing.
    """
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
def hold_lock(name: str, *, wait: bool) -> Iterator[str]:
    """Hold a named lock among this user's processes on this machine.

    The kernel releases the lock of a dead process. Other machines do not see the lock; between
    machines there is harness.store.lease.

    Args:
        name: Name of the lock, e.g. a store and a study.
        wait: Whether to wait for a process that holds the lock.

    Yields:
        Identity of the lock: host name, boot ID and file. A driver that finds the identity of its
        lock in a lease knows that the owner is dead, because the driver has the lock now. The file
        is included because two containers may have the same kernel and host name, and because two
        hosts may share /tmp. "" if files cannot be locked.

    Raises:
        BlockingIOError: Another process holds the lock, and `wait` is False.
        UserError: The folder of temporary files, or that of locks in it, cannot be used.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    try:
        with _lock_folder() as folder:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(f"{digest}.lock", flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise temporary_folder_error(error) from error
    try:
        status = os.fstat(file)
        boot = BOOT_ID.read_text(encoding="ascii").strip() if BOOT_ID.exists() else ""
        lock_id = f"{socket.gethostname()} {boot} {status.st_dev}:{status.st_ino}"
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if not wait and isinstance(error, BlockingIOError | PermissionError):
                raise BlockingIOError(*error.args) from error
            lock_id = ""
        yield lock_id
    finally:
        os.close(file)


@contextmanager
def _lock_folder() -> Iterator[int]:
    """Open this user's folder of lock files in the shared folder for temporary files.

    Other users can guess its name and the names in it, but they cannot create files in it and lock
    them first.

    Yields:
        Descriptor of the folder.

    Raises:
        OSError: The folder cannot be created or opened.
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
def scratch_folder(max_length: int | None = None) -> Iterator[Path]:
    """Create a private temporary folder (mode 0700), and remove it at the end of the context.

    It is locked while its process is alive. `remove_stale_folders` thereby recognizes the folders
    of dead processes.

    Args:
        max_length: Maximum length of its path in bytes, for sockets. The folder is then in
            RAY_TMPDIR, in TMPDIR, or, if those are too long, in /tmp. Defaults to no limit.

    Raises:
        UserError: The folder cannot be created.
    """
    parent = None
    if max_length is not None:
        parent = _find_short_parent(max_length - len(f"/{PREFIX}") - _SUFFIX_LENGTH)
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        except OSError as error:  # a full disk, or no writable folder
            raise temporary_folder_error(error) from error
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with suppress(OSError):  # without file locks, remove_stale_folders keeps the folder
            fcntl.flock(handle, fcntl.LOCK_EX)
        if folder.exists():  # otherwise another process removed it before it was locked
            break
        os.close(handle)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def temporary_folder_error(error: OSError) -> UserError:
    """Return the error about an unusable folder of temporary files."""
    path = error.filename or "temporary files"
    reason = error.strerror or error
    return UserError(f"{path}: cannot be created: {reason}. Set TMPDIR to another folder")


def remove_stale_folders() -> None:
    """Remove the scratch folders of this user's killed processes. Raises nothing."""
    with suppress(OSError):
        for parent in set(_list_parents()):
            for folder in Path(parent).glob(f"{PREFIX}*"):
                with suppress(OSError):
                    _remove_if_dead(folder)


def _list_parents() -> list[str]:
    """Return the parents of scratch folders, in the order of preference."""
    return [*filter(None, [os.environ.get("RAY_TMPDIR")]), tempfile.gettempdir(), _SHORTEST_PARENT]


def _find_short_parent(max_bytes: int) -> str | None:
    """Return the first existing parent whose path has at most `max_bytes`, or None."""
    parents = (path for path in _list_parents() if len(os.fsencode(path)) <= max_bytes)
    return next((path for path in parents if Path(path).is_dir()), None)


def _remove_if_dead(folder: Path) -> None:
    """Remove a scratch folder if it belongs to this user and its process is dead."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(handle).st_uid == os.getuid():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
    finally:
        os.close(handle)
