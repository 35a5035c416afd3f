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

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # changes whenever the machine boots
SCRATCH_PREFIX = "ship-sweep-scratch-"  # of the names of scratch folders
_SUFFIX_LENGTH: Final = 8  # characters that tempfile.mkdtemp appends
_SHORTEST_PARENT: Final = "/tmp"  # also Ray's default


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
    previous = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in previous.items():
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
    previous_levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, previous_level in zip(loggers, previous_levels, strict=True):
            logger.setLevel(previous_level)


@contextmanager
def hold_lock(name: str, *, wait: bool) -> Iterator[str]:
    """Hold a named lock among this user's processes on this machine.

    The kernel releases the lock when the process ends. The lock excludes no process on another
    machine; for that see harness.store.lease.

    Args:
        name: Name of the lock, e.g. the names of a store and a study.
        wait: Whether to wait while another process holds the lock.

    Yields:
        Identity of the lock: host name, boot ID, and device and inode of its file. "" if the file
        system cannot lock files. Leases contain this identity: if a lease has the identity of a
        lock that this process now holds, the owner of the lease is dead. The inode distinguishes
        containers with the same host name and kernel, and the host name distinguishes hosts that
        share /tmp.

    Raises:
        BlockingIOError: Another process holds the lock, and `wait` is False.
        UserError: The folder for temporary files, or the folder for locks in it, cannot be used.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    try:
        with _open_lock_folder() as folder:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(f"{digest}.lock", flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise make_temporary_folder_error(error) from error
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
def _open_lock_folder() -> Iterator[int]:
    """Open this user's folder for locks in the shared folder for temporary files.

    It is private: other users can guess the name of a lock file, but cannot create and lock it.

    Yields:
        File descriptor of the folder.

    Raises:
        OSError: The folder cannot be created or opened.
        UserError: Other users can use the folder, or it is a link.
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

    The folder is locked while its process is alive, so that `remove_stale_folders` recognizes the
    folders of dead processes.

    Args:
        max_length: Maximum length of the folder's path in bytes, because paths of sockets are
            limited. The folder is then created in the first of RAY_TMPDIR, TMPDIR and /tmp that
            exists and is short enough. Defaults to no limit; the folder is then in TMPDIR.

    Raises:
        UserError: The folder cannot be created.
    """
    parent = None
    if max_length is not None:
        parent = _find_short_parent(max_length - len(f"/{SCRATCH_PREFIX}") - _SUFFIX_LENGTH)
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=parent))
        except OSError as error:  # e.g. a full disk, or no writable folder
            raise make_temporary_folder_error(error) from error
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with suppress(OSError):  # without file locks, remove_stale_folders keeps the folder
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():  # otherwise another process removed it before it was locked
            break
        os.close(descriptor)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def make_temporary_folder_error(error: OSError) -> UserError:
    """Return the error for the user if a temporary file or folder cannot be created."""
    path = error.filename or "temporary files"
    reason = error.strerror or error
    return UserError(f"{path}: cannot be created: {reason}. Set TMPDIR to another folder")


def remove_stale_folders() -> None:
    """Remove the scratch folders of this user's killed processes. Raises nothing."""
    with suppress(OSError):
        for parent in set(_list_parents()):
            for folder in Path(parent).glob(f"{SCRATCH_PREFIX}*"):
                with suppress(OSError):
                    _remove_if_dead(folder)


def _list_parents() -> list[str]:
    """Return the folders that may contain scratch folders, in order of preference."""
    return [*filter(None, [os.environ.get("RAY_TMPDIR")]), tempfile.gettempdir(), _SHORTEST_PARENT]


def _find_short_parent(max_bytes: int) -> str | None:
    """Return the first existing parent whose path has at most `max_bytes` bytes, or None."""
    parents = (path for path in _list_parents() if len(os.fsencode(path)) <= max_bytes)
    return next((path for path in parents if Path(path).is_dir()), None)


def _remove_if_dead(folder: Path) -> None:
    """Remove a scratch folder if it belongs to this user and its process is dead.

    Raises:
        OSError: The process is alive, or the folder cannot be opened or removed.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid == os.getuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
    finally:
        os.close(descriptor)
