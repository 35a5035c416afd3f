"""A queue of writes on disk: JSON lines, fsynced, that only the owner may read.

A head names the store and the experiment. Then each line is a write, {"write": 3, "call":
"log_batch", "arguments": {...}}, or says that one is done, {"done": 3, "run": ...}. The file goes
when all are.
"""

import errno
import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

FORMAT = 1


class QueueError(Exception):
    """The file cannot be used; the message names it, and says what to do."""


@dataclass(frozen=True)
class Head:
    """Whose writes a queue holds. uri: of the store, without its secrets. experiment: its id."""

    uri: str
    study: str
    experiment: str


@dataclass(frozen=True)
class Queued:
    """A write that waits: a call of MLflow's client by name, and its arguments in JSON's types."""

    number: int
    call: str
    arguments: Mapping[str, Any]


class QueueFile:
    """The file, and what waits in it, oldest first. No file where nothing waits.

    Not safe to use from two threads at once.
    """

    def __init__(self, path: Path, head: Head) -> None:
        """Read what an earlier process left.

        Raises:
            QueueError: damaged, of another experiment, or unreadable. Nothing is thrown away.
        """
        self.path = path
        self.waiting: deque[Queued] = deque()
        self.runs: dict[str, str] = {}
        self._head = head
        self._number = 0
        self._whole = 0
        self._owed: list[dict[str, Any]] = []
        try:
            self._read(path.read_bytes() if path.exists() else b"")
        except OSError as error:
            raise QueueError(f"{path}: cannot be read: {error.strerror}") from error
        if not self.waiting:  # a crash may leave a file of which all is done
            self._remove()

    def append(self, call: str, arguments: Mapping[str, Any]) -> None:
        """Add a write; it is on disk when this returns.

        Raises:
            QueueError: it cannot be written, and the file is as it was.
        """
        queued = Queued(self._number + 1, call, arguments)
        line = {"write": queued.number, "call": call, "arguments": arguments}
        self._add([*self._owed, line], sync=True)
        self._owed.clear()
        self._number += 1
        self.waiting.append(queued)

    def done(self, run: tuple[str, str] | None = None) -> None:
        """The oldest write has reached the store.

        Args:
            run: for one that made a run, its key and the store's id.
        """
        queued = self.waiting[0]
        if run is not None:
            self.runs[run[0]] = run[1]
        if len(self.waiting) == 1:
            self._remove()
        else:
            self._owed.append({"done": queued.number, "run": run})
            # unsynced, or not at all where the disk is full: what is lost of these is sent once
            # more, which changes nothing
            with suppress(QueueError):
                self._add(self._owed, sync=False)
                self._owed.clear()
        self.waiting.popleft()

    def _add(self, lines: Sequence[Mapping[str, Any]], *, sync: bool) -> None:
        fresh = [{"outbox": FORMAT, **asdict(self._head)}] if self._whole == 0 else []
        text = b"".join(json.dumps(line).encode() + b"\n" for line in [*fresh, *lines])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            with FileIO(handle, "wb") as file:
                self._add_to(file, text, sync)
            if fresh and sync:
                sync_folder(self.path.parent)
        except OSError as error:
            raise QueueError(f"{self.path}: cannot be written: {error.strerror}") from error

    def _add_to(self, file: FileIO, text: bytes, sync: bool) -> None:
        """Add whole lines behind the last whole one, or leave the file as it is."""
        file.truncate(self._whole)  # a line that a crash tore off
        file.seek(self._whole)
        try:
            if file.write(text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fsync(file.fileno())
        except BaseException:
            file.truncate(self._whole)
            raise
        self._whole += len(text)

    def _remove(self) -> None:
        try:
            if self.path.exists():
                self.path.unlink()
                sync_folder(self.path.parent)  # these writes must not come back over later ones
        except OSError as error:
            raise QueueError(f"{self.path}: cannot be removed: {error.strerror}") from error
        self._whole = self._number = 0
        self._owed.clear()

    def _read(self, data: bytes) -> None:
        """Take over a file's lines; the last one was torn off by a crash if it has no end."""
        self._whole = data.rfind(b"\n") + 1
        lines = data[: self._whole].split(b"\n")[:-1]
        for place, line in enumerate(lines, 1):
            try:
                self._take(place, json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise QueueError(
                    f"{self.path}: line {place} is damaged ({error}); {self._left(len(lines))}"
                ) from error

    def _take(self, place: int, line: Mapping[str, Any]) -> None:
        if place == 1:
            self._check_head(line)
        elif "done" in line:
            if not self.waiting or line["done"] != self.waiting[0].number:
                raise ValueError(f"write {line['done']} is not the oldest one")
            self.waiting.popleft()
            if line["run"] is not None:
                queued, stored = line["run"]
                self.runs[queued] = stored
        else:
            if line["write"] != self._number + 1:
                raise ValueError(f"write {self._number + 1} must follow")
            self._number += 1
            self.waiting.append(Queued(self._number, line["call"], dict(line["arguments"])))

    def _check_head(self, line: Mapping[str, Any]) -> None:
        if line["outbox"] != FORMAT:
            raise QueueError(f"{self.path}: written by another version of ship-sweep")
        found = Head(line["uri"], line["study"], line["experiment"])
        if found != self._head:
            theirs, ours = _named(found), _named(self._head)
            raise QueueError(
                f"{self.path}: holds writes for {theirs}, and this is {ours}; move it away to go "
                f"on without them"
            )

    def _left(self, lines: int) -> str:
        return f"its {lines - 1} lines were left as they are: repair it, or move it away"


def _named(head: Head) -> str:
    return f"experiment {head.experiment} ({head.study}) of {head.uri}"


def sync_folder(folder: Path) -> None:
    """Make it last through a power cut that a file was made or removed."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
