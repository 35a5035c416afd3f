"""What a person can mend: the command line prints it as lines and exits with 2, or 3."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.wording import nearest, printable, printable_lines, redacted, show

_HOST_AND_PORT = re.compile(r"[^\s:/]+:\d+")


class UserError(ValueError):
    """What a person can mend: the command line prints it without a traceback and exits with 2.

    A store that is away (StoreAway), a study that was lost (StudyLost) and a Ray that has died
    (RayLost) exit with 3. Secrets of addresses in it are masked.
    """

    def __init__(self, lines: str) -> None:
        super().__init__(printable_lines(redacted(lines)))


class ConfigError(UserError):
    """A study that cannot run: str() has one line for each fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))

    @property
    def faults(self) -> list[str]:
        """The lines, one a fault."""
        return str(self).split("\n")


class ClusterError(UserError):
    """Ray cannot give the study what it asks for."""


class RayLost(UserError):
    """Ray itself has died under a study.

    dead: its process that died, and how.
    """

    def __init__(self, dead: str) -> None:
        super().__init__(f"Ray has died ({dead}): the same command goes on from here")


NOTHING = object()  # None is a value that a user can write


@dataclass(frozen=True)
class Fault:
    """One fault: `path` is the YAML's dotted path, `must` reads on from it ("must be >= 1").

    detail: reads on from `must`: of which method the setting is, say. A value that is refused of
        several is one fault.
    got: the value; NOTHING: the fault is that of the path itself.
    near: what was probably meant, where it is not the choice that is the nearest to `got`.
    advice: a sentence on what to do where nothing is near; it ends without a full stop.
    """

    path: str
    must: str
    got: Any = NOTHING
    choices: tuple[str, ...] = ()
    near: str | None = None
    detail: str = ""
    advice: str = ""

    def line(self, source: str) -> str:
        """The fault as the one line that a user reads of a file."""
        return f"{source}: {self.text}"

    @property
    def text(self) -> str:
        """The same without its source: what is wrong, what was given, and what was meant."""
        got = "" if self.got is NOTHING else f", got {show(self.got)}"
        near = self.near or (nearest(self.got, self.choices) if isinstance(self.got, str) else None)
        notes = [f"did you mean {near}?"] if near else []
        notes += ["choices: " + ", ".join(self.choices)] if self.choices else []
        note = f" ({' '.join(notes)})" if notes else ""
        advice = f". {self.advice}" if self.advice and not near else ""
        told = f"{self.path} {self.must}{self.detail}{got}{note}{advice}"
        return printable(" ".join(told.strip().splitlines()))


def address_fault(address: str) -> str | None:
    """The line that refuses an address of Ray's; None if it can be meant.

    Ray Client is refused, be it in RAY_ADDRESS: through it Tune pickles its searcher and callbacks
    and runs on the head, so signals, progress and what is written would be those of copies.
    """
    named = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    local = address in ("local", "auto") or _HOST_AND_PORT.fullmatch(address)
    if local and not named.startswith("ray://"):
        return None
    source = "address" if named == address else "RAY_ADDRESS"
    must = "must be local, auto or HOST:PORT, and not Ray Client's"
    return Fault(source, must, redacted(named)).text
