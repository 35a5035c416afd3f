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

# File systems with atomic writes. On others a file is written under another name and renamed.
ATOMIC_SYSTEMS = ("s3", "gcs", "abfs")
MALFORMED_URI = re.compile(r"(file|s3|gs|gcs|abfss?|hdfs|viewfs):(?!//)")
SUFFIX = ".safetensors"
Notes = Mapping[str, str | float]
# Minimum time between two checkpoints, as a multiple of the time that the last one took.
MIN_INTERVAL_FACTOR = 20


class StorageError(UserError):
    """The storage cannot be used. The message has its address and the reason in one line."""


def resolve_storage_uri(requested: str | None, cache_dir: Path) -> str:
    """Return the absolute URI or path of the storage.

    Args:
        requested: URI or path. Defaults to $SHIP_SWEEP_STORAGE, or to a folder in the cache folder.
        cache_dir: Cache folder.

    Raises:
        StorageError: The URI is malformed, such as s3:bucket, which would be a local folder.
    """
    uri = requested or os.environ.get("SHIP_SWEEP_STORAGE") or str(cache_dir / "checkpoints")
    if MALFORMED_URI.match(uri):
        scheme = uri.partition(":")[0]
        raise StorageError(f"the storage must be a folder or begin with {scheme}://, got {uri!r}")
    return uri if "://" in uri else str(Path(uri).absolute())


@dataclass(frozen=True)
class Storage:
    """Named files of one study under a URI. It is pickled and sent to workers.

    `read`, `write` and `delete` may raise OSError or pyarrow's ArrowException.

    Attributes:
        uri: Path, or URI that pyarrow.fs.FileSystem.from_uri accepts.
        folder: Name of the study's folder below it.
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
        except Exception as error:  # OSError, or pyarrow's errors for an unusable URI
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
        """Write a file atomically. If the process is killed, the previous file remains."""
        system, folder = self._locate()
        path = f"{folder}/{name}{SUFFIX}"
        if system.type_name in ATOMIC_SYSTEMS:
            with system.open_output_stream(path) as stream:
                stream.write(data)
            return
        system.create_dir(folder, recursive=True)
        # The name does not depend on the writer, so nothing accumulates. A trial has one worker.
        with system.open_output_stream(f"{path}.part") as stream:
            stream.write(data)
        system.move(f"{path}.part", path)

    def delete(self, name: str) -> None:
        """Remove a file and any partial file of a killed writer, if they exist."""
        system, folder = self._locate()
        for path in (f"{folder}/{name}{SUFFIX}", f"{folder}/{name}{SUFFIX}.part"):
            with suppress(FileNotFoundError):
                system.delete_file(path)

    def remove(self, name: str = "") -> None:
        """Remove a file, or all files of the study. Errors are only logged.

        Files of workers on dead nodes, and of trials whose seeds were halved, may remain until the
        study is complete.

        Args:
            name: Name of the file. Defaults to all files.
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

    The configuration's key covers its constants, images, weights and results version
    (harness.planning.configurations). If one of them changes, so does the name, and an outdated
    checkpoint is never read.

    Args:
        config_key: Key of the trial's configuration.
        seeds: Seeds of the trial in their order.
        save: Whether the trial saves its trained models.
    """
    identity = json.dumps([config_key, list(seeds), save])
    return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()


class Checkpoints:
    """Reader and writer of the checkpoints of a worker's current trial.

    Errors of the storage are only logged; the trial then cannot be resumed. An unusable checkpoint
    is overwritten, or removed at the trial's end.
    """

    def __init__(self, storage: Storage | None, interval: float | None) -> None:
        """Create the reader and writer of a worker.

        Args:
            storage: Storage of the checkpoints. None disables checkpoints.
            interval: Minimum number of seconds between two checkpoints. 0 writes one whenever
                possible. None writes none, but an existing one is read.
        """
        self._storage, self.interval = storage, math.inf if interval is None else interval

    def begin(self, name: str) -> None:
        """Begin a trial. The driver removes the checkpoint of the previous one.

        Args:
            name: Name of the trial's checkpoint, see `make_checkpoint_name`.
        """
        self._name, self._is_unusable = name, False
        self._schedule_next(0.0)

    def read(self) -> "Checkpoint | None":
        """Return the trial's checkpoint, or None if it is missing or cannot be read."""
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
        """Write the result of a finished trial in place of its checkpoint.

        The driver removes it once the result is in the store. If the driver ends before that, the
        trial need not be trained again.

        Args:
            epochs: Metrics of all epochs of the trial.
            files: Contents of the run's files by path.
            notes: Numbers and texts to save with it.
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
        except Exception as error:  # as in write()
            logger.warning("cannot write result %s: %s", self._name, error)

    def write(self, trial: Any, notes: Notes) -> None:
        """Write a checkpoint of the trial if one is due and the trial supports it.

        Args:
            trial: A ship.trial.run.TrialRun. Other iterators have no checkpoints.
            notes: Numbers and texts to save with it.
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
        """Ignore the checkpoint if an error says that it is unusable. Return whether it does."""
        from ship.state import CheckpointError

        self._is_unusable = isinstance(error, CheckpointError)
        return self._is_unusable

    def _schedule_next(self, seconds: float) -> None:
        """Schedule the next checkpoint. The last one took this many seconds."""
        self._next = time.monotonic() + max(
            self.interval, MIN_INTERVAL_FACTOR * seconds if self.interval else 0.0
        )
