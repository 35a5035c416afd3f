"""What a person can mend: the command line prints it as lines and exits with 2, or 3."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.wording import show
from reports.contract import printable, printable_lines


class UserError(ValueError):
    """What a person can mend: the command line prints it without a traceback and exits with 2.

    A store that is away (StoreAway), a study that was lost (StudyLost) and a Ray that has died
    (RayLost) exit with 3.
    """

    def __init__(self, lines: str) -> None:
        super().__init__(printable_lines(lines))


class ConfigError(UserError):
    """A study that cannot run; `faults` holds every fault, str() one line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


class ClusterError(UserError):
    """Ray cannot give the study what it asks for."""


class RayLost(UserError):
    """Ray itself has died under a study.

    dead: its process that died, and how.
    """

    def __init__(self, dead: str) -> None:
        super().__init__(f"Ray has died ({dead}): the same command goes on from here")


_NOTHING = object()  # None is a value that a user can write


@dataclass(frozen=True)
class Fault:
    """One fault: `path` is the YAML's dotted path, `must` reads on from it ("must be >= 1")."""

    path: str
    must: str
    got: Any = _NOTHING
    choices: tuple[str, ...] = ()
    near: str | None = None

    def line(self, source: str) -> str:
        """The fault as the one line that a user reads of a file."""
        return f"{source}: {self.text}"

    @property
    def text(self) -> str:
        """The same without its source: what is wrong, what was given, and what was meant."""
        got = "" if self.got is _NOTHING else f", got {show(self.got)}"
        notes = [f"did you mean {self.near}?"] if self.near else []
        notes += ["choices: " + ", ".join(self.choices)] if self.choices else []
        note = f" ({' '.join(notes)})" if notes else ""
        return printable(" ".join(f"{self.path} {self.must}{got}{note}".strip().splitlines()))
