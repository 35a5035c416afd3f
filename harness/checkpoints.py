"""Checkpoints of trials, and their storage: a folder that all nodes share, or a bucket."""

import hashlib
import json
import logging
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.wording import describe_error

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

    from ship.state import Checkpoint
    from ship.trial_config import EpochMetrics

logger = logging.getLogger(__name__)

# pyarrow's names of file systems with atomic writes. On others, a file is written under a temporary
# name and then renamed.
ATOMIC_SYSTEMS = ("s3", "gcs", "abfs")
# A URI without // after its scheme, such as s3:bucket, which would be read as a local path.
MALFORMED_URI = re.compile(r"(file|s3|gs|gcs|abfss?|hdfs|viewfs):(?!//)")
SUFFIX = ".safetensors"
Notes = Mapping[str, str | float]  # numbers and texts that a worker adds to a checkpoint
# Minimum time between two checkpoints, as a multiple of the time that writing the last one took.
MIN_INTERVAL_FACTOR = 20


class StorageError(UserError):
    """The storage cannot be used. The message is one line with its URI and the reason."""


def resolve_storage_uri(requested: str | None, cache_dir: Path) -> str:
    """Return the absolute URI or path of the storage.

    Args:
        requested: URI or path. If it is None or "", the value of $SHIP_SWEEP_STORAGE is used. If
            that is empty too, the storage is the folder checkpoints/ in `cache_dir`.
        cache_dir: Cache folder.

    Raises:
        StorageError: The URI has no // after its scheme, such as s3:bucket.
    """
    uri = requested or os.environ.get("SHIP_SWEEP_STORAGE") or str(cache_dir / "checkpoints")
    if MALFORMED_URI.match(uri):
        scheme = uri.partition(":")[0]
        raise StorageError(f"the storage must be a folder or begin with {scheme}://, got {uri!r}")
    return uri if "://" in uri else str(Path(uri).absolute())


@dataclass(frozen=True)
class Storage:
    """Folder of one study's checkpoints, with a file per name. It is pickled and sent to workers.

    `read`, `write` and `delete` may raise OSError or pyarrow's ArrowException.

    Attributes:
        uri: Path, or URI that pyarrow.fs.FileSystem.from_uri accepts.
        folder: Name of the study's folder below `uri`.
    """

    uri: str
    folder: str

    def _locate(self) -> tuple["FileSystem", str]:
        """Return the file system and the path of the study's folder on it."""
        from pyarrow.fs import FileSystem

        system, root = FileSystem.from_uri(self.uri)
        return system, f"{root.rstrip('/')}/{self.folder}"

    def check(self) -> None:
        """Check the storage by writing a small file and removing it.

        Raises:
            StorageError: The storage cannot be written.
        """
        name = f"check-{os.getpid()}-{time.time_ns()}"
        try:
            self.write(name, b"ship-sweep")
            self.delete(name)
        except Exception as error:  # OSError, or an error of pyarrow about the URI
            raise StorageError(
                f"storage {self.uri}: cannot write checkpoints: {describe_error(error)}. Choose "
                "another place with storage, --storage or SHIP_SWEEP_STORAGE, or disable "
                "checkpoints with checkpoint_every: null"
            ) from error

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""
        system, folder = self._locate()
        try:
            with system.open_input_file(f"{folder}/{name}{SUFFIX}") as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically: if the process is killed, the previous version remains."""
        system, folder = self._locate()
        path = f"{folder}/{name}{SUFFIX}"
        if system.type_name in ATOMIC_SYSTEMS:
            with system.open_output_stream(path) as stream:
                stream.write(data)
            return
        system.create_dir(folder, recursive=True)
        # Killed writers leave at most one temporary file, because they all use the same name. They
        # do not conflict, because only one worker at a time runs a trial.
        with system.open_output_stream(f"{path}.part") as stream:
            stream.write(data)
        system.move(f"{path}.part", path)

    def delete(self, name: str) -> None:
        """Remove a file and the temporary file of a killed writer, if they exist."""
        system, folder = self._locate()
        for path in (f"{folder}/{name}{SUFFIX}", f"{folder}/{name}{SUFFIX}.part"):
            with suppress(FileNotFoundError):
                system.delete_file(path)

    def remove(self, name: str = "") -> None:
        """Remove the file of a trial or, once the study is complete, all files of the study.

        Some files are removed only together with all others: those of trials that were split in
        two, and of trials on lost nodes. Errors are only logged.

        Args:
            name: Name of the file. "" removes all files.
        """
        try:
            if name:
                self.delete(name)
            else:
                system, folder = self._locate()
                system.delete_dir_contents(folder, missing_dir_ok=True)
        except Exception as error:
            logger.warning("cannot remove old checkpoints: %s", error)


def make_checkpoint_name(config_key: str, seeds: Sequence[int], save: bool) -> str:
    """Return the name of a trial's checkpoint.

    The name depends on the configuration's key, so an outdated checkpoint is never read.

    Args:
        config_key: Key of the trial's configuration, a hash of its constants, images, weights and
            results version (harness.planning.configurations).
        seeds: Seeds of the trial in their order.
        save: Whether the trial saves its trained models.
    """
    identity = json.dumps([config_key, list(seeds), save])
    return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()


class Checkpoints:
    """Reader and writer of the checkpoints of a worker's current trial. Call `begin` first.

    Errors of the storage are only logged. The trial then continues, but cannot be resumed.
    """

    def __init__(self, storage: Storage | None, interval: float | None) -> None:
        """Create the reader and writer of a worker.

        Args:
            storage: Storage of the checkpoints. None disables checkpoints.
            interval: Minimum number of seconds between two checkpoints. 0 writes one whenever
                possible. None writes none, but an existing one is read.
        """
        self._storage = storage
        self.interval = math.inf if interval is None else interval

    def begin(self, name: str) -> None:
        """Begin a trial: later calls are for its checkpoint.

        The checkpoint of the previous trial stays until the driver removes it.

        Args:
            name: Name of the trial's checkpoint, see `make_checkpoint_name`.
        """
        self._name = name
        self._is_unusable = False  # whether to ignore the stored checkpoint
        self._schedule_next(0.0)

    def read(self) -> "Checkpoint | None":
        """Return the trial's checkpoint. None if it is missing, unreadable or to be ignored."""
        if self._storage is None or self._is_unusable:
            return None
        from ship.state import Checkpoint

        try:
            data = self._storage.read(self._name)
            return None if data is None else Checkpoint.from_bytes(data)
        except Exception as error:  # the content is invalid, or the file system fails
            logger.warning("cannot read checkpoint %s: %s", self._name, error)
            return None

    def finish(
        self, epochs: Sequence["EpochMetrics"], files: Mapping[str, bytes], notes: Notes
    ) -> None:
        """Replace the checkpoint of a finished trial by its result.

        The driver removes the file once the result is in the store. If the driver is killed before
        that, the trial need not be trained again. Nothing is written if checkpoints are disabled.

        Args:
            epochs: Metrics of all epochs of the trial.
            files: Contents of the run's files by path.
            notes: Numbers and texts to save with the result.
        """
        if self._storage is None or math.isinf(self.interval):
            return
        import numpy as np
        import torch

        from ship.state import Checkpoint

        try:
            tensors = {
                name: torch.from_numpy(np.frombuffer(content, np.uint8).copy())
                for name, content in files.items()
            }
            checkpoint = Checkpoint(tuple(epochs), tensors, notes)
            self._storage.write(self._name, checkpoint.to_bytes())
        except Exception as error:  # e.g. too little memory for a copy
            logger.warning("cannot write result %s: %s", self._name, error)

    def write(self, trial: Any, notes: Notes) -> None:
        """Write a checkpoint of the trial if the interval has passed and the trial supports it.

        Args:
            trial: Iterator of the trial's epochs. Only a ship.trial.journal.TrialRun has
                checkpoints; nothing is written for other iterators.
            notes: Numbers and texts to save with the checkpoint.
        """
        if self._storage is None or time.monotonic() < self._next:
            return
        started = time.monotonic()
        try:
            checkpoint = trial.checkpoint() if hasattr(trial, "checkpoint") else None
            if checkpoint is None:
                return
            self._storage.write(self._name, replace(checkpoint, notes=notes).to_bytes())
        except Exception as error:  # e.g. too little memory for a copy; the trial continues
            logger.warning("cannot write checkpoint %s: %s", self._name, error)
        self._schedule_next(time.monotonic() - started)

    def ignore_if_unusable(self, error: BaseException) -> bool:
        """Return True if an error is a CheckpointError. `read` then ignores the checkpoint.

        The unusable file stays until a new checkpoint overwrites it, or the driver removes it.
        """
        from ship.state import CheckpointError

        self._is_unusable = isinstance(error, CheckpointError)
        return self._is_unusable

    def _schedule_next(self, seconds: float) -> None:
        """Set the earliest time of the next checkpoint.

        Args:
            seconds: Time that writing the last checkpoint took.
        """
        pause = max(self.interval, MIN_INTERVAL_FACTOR * seconds) if self.interval else 0.0
        self._next = time.monotonic() + pause
