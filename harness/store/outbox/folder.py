"""Where the queues of a study's drivers lie, and which of them is whose."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from harness.store.outbox.journal import QueueError, sync_folder


@dataclass(frozen=True)
class Drivers:
    """Tokens of drivers of a study.

    own: this one's. before: those whose writes may still be sent, newest first: the last one that
    ran something, and whoever has only looked since.
    """

    own: str = ""
    before: tuple[str, ...] = ()


def queue_path(folder: Path, uri: str, study: str, driver: str = "") -> Path:
    """Where the writes of a study to a store wait.

    Args:
        folder: of all queues.
        uri: of the store, without its secrets: a new password leaves the file where it is.
        study: the experiment's name.
        driver: whose writes they are; each driver has a file of its own.
    """
    digest = hashlib.blake2b(f"{uri}\n{study}".encode(), digest_size=8).hexdigest()
    name = f"{re.sub(r'[^A-Za-z0-9._-]', '_', study)[:60]}-{digest}"
    return folder / f"{name}{f'-{driver[:16]}' if driver else ''}.jsonl"


def queues(folder: Path, uri: str, study: str) -> list[Path]:
    """The files of all drivers of a study."""
    return sorted(folder.glob(f"{queue_path(folder, uri, study).stem}*.jsonl"))


def take_over(folder: Path, uri: str, study: str, drivers: Drivers) -> list[Path]:
    """Make the queue of the study's last driver this one's; set aside what is older.

    A driver that was refused, or died, before it ran anything is not what is meant by the last one.
    Where another has run the study since, that one has run again what the writes are about: sent
    now, they would be there twice, or go over newer ones.

    Returns:
        Where the files that were set aside are now.

    Raises:
        QueueError: one cannot be moved.
    """
    own = queue_path(folder, uri, study, drivers.own)
    last = [queue_path(folder, uri, study, token) for token in drivers.before]
    found = queues(folder, uri, study)
    ours = next((path for path in last if path in found), None)
    aside = []
    try:
        for path in found:
            if path == ours:
                path.replace(own)
            elif path != own:
                aside.append(path.replace(path.with_suffix(".left-out")))
        if found:
            sync_folder(folder)
    except OSError as error:
        raise QueueError(f"{folder}: {error}") from error
    return aside
