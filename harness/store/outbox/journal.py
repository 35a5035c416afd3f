"""What waits of one study, on disk: rows of the file that all studies share (queue_file.py)."""

import json
import sqlite3
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.store.errors import StoreError
from harness.store.outbox.calls import CREATE
from harness.store.outbox.queue_file import changing
from reports.contract import Tag

_STUDY = "uri = :uri AND study = :study AND NOT left_out"
_OWN = f"{_STUDY} AND driver = :driver"


@dataclass(frozen=True)
class Drivers:
    """Tokens of drivers of a study.

    own: this one's. before: those whose writes may still be sent, newest first: the last one that
    ran something, and whoever has only looked since.
    """

    own: str = ""
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Head:
    """Whose writes a journal holds. uri: the store's key (store_key). experiment: its id."""

    uri: str
    study: str
    experiment: str


@dataclass(frozen=True)
class Queued:
    """A write that waits: a call of MLflow's client by name, and its arguments in JSON's types."""

    number: int
    call: str
    arguments: Mapping[str, Any]


class Journal:
    """What waits, oldest first; other processes may use the file at the same time, threads not.

    runs: key -> the store's id, of runs that were made; the sender adds to it. left_out: how many
    rows of drivers that were replaced have just been set aside.
    """

    def __init__(self, path: Path, head: Head, drivers: Drivers) -> None:
        """Take over what the study's last driver left; set aside what is older.

        A driver that was refused, or died, before it ran anything is not what is meant by the last
        one. Where another has run the study since, that one has run again what the writes are
        about: sent now, they would be there twice, or go over newer ones.

        Raises:
            StoreError: the file cannot be used, or a row is damaged or of another experiment;
                nothing was changed.
        """
        self.path = path
        self.waiting: deque[Queued] = deque()
        self.runs: dict[str, str] = {}
        self.left_out = 0
        self._whose = {**asdict(head), "driver": drivers.own}
        self._owed: list[dict[str, Any]] = []
        if path.exists():
            with changing(path) as base:
                self._take_over(base, drivers.before)
                self._load(base)

    def append(self, call: str, arguments: Mapping[str, Any]) -> None:
        """Add a write; it is on disk when this returns.

        Raises:
            StoreError: it cannot be written, and the file is as it was.
        """
        row = {**self._whose, "kind": call, "arguments": json.dumps(arguments)}
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        with changing(self.path) as base:
            self._mark(base)
            number = base.execute(f"INSERT INTO writes ({names}) VALUES ({values})", row).lastrowid
        self._owed.clear()
        self.waiting.append(Queued(number or 0, call, arguments))

    def done(self) -> None:
        """The oldest write has reached the store; `runs` knows the run that it made, if any.

        Raises:
            StoreError: it is the last one, and its row cannot be removed.
        """
        queued, last = self.waiting[0], len(self.waiting) == 1
        made = self.runs[queued.arguments["tags"][Tag.RUN_KEY]] if queued.call == CREATE else ""
        self._owed.append({"number": queued.number, "done": made})
        try:
            with changing(self.path) as base:
                if last:
                    base.execute(f"DELETE FROM writes WHERE {_OWN}", self._whose)
                else:
                    self._mark(base)
            self._owed.clear()
        except StoreError:
            # a full disk, say: it is marked with the next one, or sent once more after a crash,
            # which changes nothing; but nothing may come back over writes that did not wait
            if last:
                raise
        self.waiting.popleft()

    @property
    def way_out(self) -> str:
        """The command by which somebody goes on without what waits; nothing is thrown away."""
        uri, study = (self._whose[key].replace("'", "''") for key in ("uri", "study"))
        change = f"UPDATE writes SET left_out = 1 WHERE uri = '{uri}' AND study = '{study}'"
        return f'sqlite3 {self.path} "{change}"'

    def _take_over(self, base: sqlite3.Connection, before: tuple[str, ...]) -> None:
        found = base.execute(f"SELECT DISTINCT driver FROM writes WHERE {_STUDY}", self._whose)
        known = {driver for (driver,) in found}
        values = {**self._whose, "last": next((token for token in before if token in known), None)}
        taken = f"UPDATE writes SET driver = :driver WHERE {_STUDY} AND driver = :last"
        base.execute(taken, values)
        aside = f"UPDATE writes SET left_out = 1 WHERE {_STUDY} AND driver != :driver"
        self.left_out = base.execute(aside, values).rowcount

    def _load(self, base: sqlite3.Connection) -> None:
        names = "number, experiment, kind, arguments, done"
        rows = base.execute(f"SELECT {names} FROM writes WHERE {_OWN} ORDER BY number", self._whose)
        for number, experiment, call, text, done in rows:
            uri, study, ours, _ = self._whose.values()
            if experiment != ours:
                raise StoreError(
                    f"{self.path}: holds writes for experiment {experiment} ({study}) of {uri}, "
                    f"and this is experiment {ours}; to go on without them: {self.way_out}"
                )
            try:
                arguments = dict(json.loads(text))
                if done:
                    self.runs[arguments["tags"][Tag.RUN_KEY]] = done
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise StoreError(
                    f"{self.path}: write {number} is damaged ({error}); it was left as it is: "
                    f"repair it, or go on without what waits: {self.way_out}"
                ) from error
            if done is None:
                self.waiting.append(Queued(number, call, arguments))

    def _mark(self, base: sqlite3.Connection) -> None:
        mark = f"UPDATE writes SET done = :done WHERE {_OWN} AND number = :number"
        base.executemany(mark, [{**self._whose, **owed} for owed in self._owed])


def waits(path: Path, uri: str, study: str) -> bool:
    """Whether writes of a study wait in a file.

    Args:
        path: of the file, which need not be there.
        uri: key of the store that they are for (reports.contract.store_key).
        study: name of the experiment.

    Raises:
        StoreError: the file cannot be used.
    """
    if not path.exists():
        return False
    query = f"SELECT EXISTS (SELECT 1 FROM writes WHERE {_STUDY} AND done IS NULL)"
    with changing(path) as base:
        return bool(base.execute(query, {"uri": uri, "study": study}).fetchone()[0])
