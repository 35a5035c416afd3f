"""A worker's checkpoints: when to write one, and which one a trial goes on from."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.checkpoint_storage import Storage

if TYPE_CHECKING:
    from ship.state import Checkpoint

logger = logging.getLogger(__name__)

# Between two checkpoints lies at least this many times what the last one took.
REST = 20
NAME = "name"
Notes = Mapping[str, str | float]


@runtime_checkable
class Checkpointable(Protocol):
    """A trial on its way that can say where it is (ship.trial.run.TrialRun)."""

    def checkpoint(self) -> "Checkpoint | None":
        """Where it is; None if that cannot be said now."""


def checkpoint_name(setting_key: str, seeds: Sequence[int]) -> str:
    """What the checkpoint of a Ray trial is called: its setting and its seeds, in their order.

    A setting's key covers its constants, pictures, weights and results version
    (harness.planning.settings), so a checkpoint of anything else has another name.
    """
    said = json.dumps([setting_key, list(seeds)])
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def is_unfit(error: Exception) -> bool:
    """Whether an error says that a checkpoint does not fit its trial."""
    from ship.state import CheckpointError

    return isinstance(error, CheckpointError)


class Checkpoints:
    """Checkpoints of the trial that a worker runs now.

    Storage that fails costs a trial nothing but the chance to go on from there: it is logged.
    """

    def __init__(self, storage: Storage | None, every: float | None) -> None:
        """Build it.

        Args:
            storage: None: there are no checkpoints.
            every: seconds between two, 0: at every chance; None: none are written, but one that is
                there is read.
        """
        self._storage = storage
        self._every = every
        self._name = ""
        self._next = 0.0
        self._unfit = False

    def begin(self, name: str) -> None:
        """Turn to a trial; the one before has ended, and its checkpoint goes."""
        self.drop()
        self._name = name
        self._unfit = False
        self._rest(0.0)

    def held(self) -> "Checkpoint | None":
        """The trial's checkpoint, if there is one that can be read."""
        if self._storage is None or not self._name or self._unfit:
            return None
        from ship.state import Checkpoint, CheckpointError

        try:
            data = self._storage.read(self._name)
            checkpoint = None if data is None else Checkpoint.from_bytes(data)
            if checkpoint is not None and checkpoint.notes.get(NAME) != self._name:
                raise CheckpointError("it is of another trial")
        except CheckpointError as error:
            logger.warning("the checkpoint %s is of no use: %s", self._name, error)
            self.drop()
            return None
        except Exception as error:  # whatever a filesystem has to say: from the start, then
            logger.warning("the checkpoint %s cannot be read: %s", self._name, error)
            return None
        return checkpoint

    def offer(self, trial: Any, notes: Notes) -> None:
        """Write where the trial is, if it is time to.

        Args:
            notes: what is to be remembered beside it.
        """
        if self._storage is None or self._every is None or time.monotonic() < self._next:
            return
        if not isinstance(trial, Checkpointable):
            return
        started = time.monotonic()
        try:
            checkpoint = trial.checkpoint()
            if checkpoint is None:
                return
            data = replace(checkpoint, notes={**notes, NAME: self._name}).to_bytes()
            self._storage.write(self._name, data)
        except Exception as error:  # say, too little memory for a copy: no trial ends of it
            logger.warning("the checkpoint %s could not be written: %s", self._name, error)
        self._rest(time.monotonic() - started)

    def refuse(self) -> None:
        """Forget the trial's checkpoint, which does not fit, even if it cannot be removed."""
        self._unfit = True
        self.drop()

    def drop(self) -> None:
        """Forget the trial's checkpoint."""
        if self._storage is not None and self._name:
            forget(self._storage, self._name)

    def _rest(self, took: float) -> None:
        every = self._every or 0.0
        self._next = time.monotonic() + max(every, REST * took if every else 0.0)


def forget(storage: Storage, name: str) -> None:
    """Remove a checkpoint; one that cannot be removed does no harm."""
    _try(lambda: storage.delete(name))


def forget_all(storage: Storage) -> None:
    """Remove all of a study's checkpoints, of which those of dead nodes' workers may be left."""
    _try(storage.clear)


def _try(remove: Callable[[], None]) -> None:
    try:
        remove()
    except Exception as error:
        logger.warning("old checkpoints could not be removed: %s", error)
