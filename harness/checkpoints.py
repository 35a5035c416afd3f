"""A trial's checkpoints, and where they lie: a folder that all nodes see, or a bucket."""

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
from harness.wording import one_line

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

    from ship.state import Checkpoint
    from ship.trial_config import EpochMetrics

logger = logging.getLogger(__name__)

# Where an object appears whole or not at all; elsewhere a file is renamed into its place.
WHOLE = ("s3", "gcs", "abfs")
TORN = re.compile(r"(file|s3|gs|gcs|abfss?|hdfs|viewfs):(?!//)")
SUFFIX = ".safetensors"
Notes = Mapping[str, str | float]
# Between two checkpoints lies at least this many times what the last one took.
REST = 20


class StorageError(UserError):
    """The storage cannot be used; one line that names it and says why."""


def storage_uri(given: str | None, cache_dir: Path) -> str:
    """An absolute URI or path: as given, else $SHIP_SWEEP_STORAGE, else in the cache folder.

    Raises:
        StorageError: what is nearly a URI, and would be a folder of this machine.
    """
    named = given or os.environ.get("SHIP_SWEEP_STORAGE") or str(cache_dir / "checkpoints")
    if TORN.match(named):
        scheme = named.partition(":")[0]
        raise StorageError(f"the storage must be a folder or begin with {scheme}://, got {named!r}")
    return named if "://" in named else str(Path(named).absolute())


@dataclass(frozen=True)
class Storage:
    """Named files of one study under a URI; travels to workers as it is.

    Every method may raise OSError, and pyarrow's ArrowException.

    uri: a path, or what pyarrow.fs.FileSystem.from_uri understands.
    folder: the study's own, beneath it.
    """

    uri: str
    folder: str

    def _place(self) -> tuple["FileSystem", str]:
        from pyarrow.fs import FileSystem

        system, root = FileSystem.from_uri(self.uri)
        return system, f"{root.rstrip('/')}/{self.folder}"

    def check(self) -> None:
        """Write a small file and remove it.

        Raises:
            StorageError: that does not work.
        """
        name = f"check-{os.getpid()}-{time.time_ns()}"
        try:
            self.write(name, b"ship-sweep")
            self.delete(name)
        except Exception as error:  # OSError, and what pyarrow says of a URI that it cannot use
            raise StorageError(
                f"storage {self.uri}: cannot write checkpoints there: {one_line(error)} (set "
                "storage, --storage or SHIP_SWEEP_STORAGE to another place; checkpoint_every: null "
                "does without)"
            ) from error

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is none."""
        system, folder = self._place()
        try:
            with system.open_input_file(f"{folder}/{name}{SUFFIX}") as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place, whole; who is killed meanwhile leaves the one from before."""
        system, folder = self._place()
        path = f"{folder}/{name}{SUFFIX}"
        if system.type_name in WHOLE:
            with system.open_output_stream(path) as stream:
                stream.write(data)
            return
        system.create_dir(folder, recursive=True)
        # one name a file, not one a writer: nothing piles up, and a trial has one worker
        with system.open_output_stream(f"{path}.part") as stream:
            stream.write(data)
        system.move(f"{path}.part", path)

    def delete(self, name: str) -> None:
        """Remove a file, if there is one, and what a killed writer left beside it."""
        system, folder = self._place()
        for path in (f"{folder}/{name}{SUFFIX}", f"{folder}/{name}{SUFFIX}.part"):
            with suppress(FileNotFoundError):
                system.delete_file(path)

    def forget(self, name: str = "") -> None:
        """Remove a file, or all of the study's; what cannot be removed does no harm.

        Those of workers on dead nodes, and of trials whose seeds were halved, may be left until the
        study is complete.
        """
        try:
            if name:
                self.delete(name)
            else:
                system, folder = self._place()
                system.delete_dir_contents(folder, missing_dir_ok=True)
        except Exception as error:
            logger.warning("old checkpoints could not be removed: %s", error)


def checkpoint_name(setting_key: str, seeds: Sequence[int], save: bool) -> str:
    """Return the name of a trial's checkpoint.

    A setting's key covers its constants, pictures, weights and results version
    (harness.planning.settings), so a checkpoint of anything else has another name.

    Args:
        setting_key: Key of the trial's setting.
        seeds: Seeds of the trial, in their order.
        save: Whether the trial keeps what it trains.
    """
    said = json.dumps([setting_key, list(seeds), save])
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


class Checkpoints:
    """Checkpoints of the trial that a worker runs now.

    Storage that fails costs a trial nothing but the chance to go on from there: it is logged. What
    cannot be used is written over, or goes with the trial's end.
    """

    def __init__(self, storage: Storage | None, every: float | None) -> None:
        """Build it.

        Args:
            storage: None: there are no checkpoints.
            every: seconds between two, 0: at every chance; None: none are written, but one that is
                there is read.
        """
        self._storage, self.every = storage, math.inf if every is None else every

    def begin(self, name: str) -> None:
        """Turn to a trial; the one before has ended, and the driver removes its checkpoint."""
        self._name, self._unfit = name, False
        self._rest(0.0)

    def read(self) -> "Checkpoint | None":
        """The trial's checkpoint, if there is one that can be read."""
        if self._storage is None or self._unfit:
            return None
        from ship.state import Checkpoint

        try:
            data = self._storage.read(self._name)
            return None if data is None else Checkpoint.from_bytes(data)
        except Exception as error:  # of its content, or whatever a filesystem has to say
            logger.warning("the checkpoint %s cannot be used: %s", self._name, error)
            return None

    def finish(
        self, epochs: Sequence["EpochMetrics"], files: Mapping[str, bytes], notes: Notes
    ) -> None:
        """Put the result of a finished trial in the checkpoint's place.

        The driver removes it once the result is in the store. A trial whose driver ended before
        need not be trained again.

        Args:
            epochs: Metrics of all epochs of the trial.
            files: Contents of the files that its run keeps, by path.
            notes: Numbers and texts to store with it.
        """
        if self._storage is None or math.isinf(self.every):
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
        except Exception as error:  # as of write()
            logger.warning("the result %s could not be written: %s", self._name, error)

    def write(self, trial: Any, notes: Notes) -> None:
        """Write where the trial is, if it is time to, and the trial can say it.

        Args:
            trial: ship.trial.run.TrialRun, or another iterator, which has no checkpoints.
            notes: what is to be remembered with it.
        """
        if self._storage is None or time.monotonic() < self._next:
            return
        started = time.monotonic()
        try:
            checkpoint = trial.checkpoint() if hasattr(trial, "checkpoint") else None
            if checkpoint is None:
                return
            self._storage.write(self._name, replace(checkpoint, notes=notes).to_bytes())
        except Exception as error:  # say, too little memory for a copy: no trial ends of it
            logger.warning("the checkpoint %s could not be written: %s", self._name, error)
        self._rest(time.monotonic() - started)

    def refuses(self, error: BaseException) -> bool:
        """Whether an error says that the checkpoint does not fit; it is then not read again."""
        from ship.state import CheckpointError

        self._unfit = isinstance(error, CheckpointError)
        return self._unfit

    def _rest(self, took: float) -> None:
        self._next = time.monotonic() + max(self.every, REST * took if self.every else 0.0)
