"""Errors that the user can fix. The command line prints them and exits with 2 or 3."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.wording import nearest, printable, printable_lines, redacted, show

_HOST_AND_PORT = re.compile(r"[^\s:/]+:\d+")


class UserError(ValueError):
    """An error that the user can fix. The command prints it without a traceback and exits with 2.

    StoreAway, StudyLost and RayLost, which end a running study, exit with 3 instead. Secrets of
    addresses in the message are masked.
    """

    def __init__(self, lines: str) -> None:
        super().__init__(printable_lines(redacted(lines)))


class LineError(UserError):
    """A user error of one line. Line breaks and other control characters are escaped."""

    def __init__(self, line: str) -> None:
        super().__init__(printable(line))


class ConfigError(UserError):
    """A study or a call that is not valid. str() has one line for each fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))

    @property
    def faults(self) -> list[str]:
        """Lines of the message, one per fault."""
        return str(self).split("\n")


class ClusterError(UserError):
    """Ray or the cluster cannot run the study."""


class RayLost(UserError):
    """Ray has died while a study was running."""

    def __init__(self, dead: str) -> None:
        """Create the error.

        Args:
            dead: Ray's process that died, and how.
        """
        super().__init__(f"Ray has died ({dead}). Run the same command to resume")


NOTHING = object()  # marks a missing value; None is a value that a user can write


@dataclass(frozen=True)
class Fault:
    """One fault of a study.

    Attributes:
        path: Dotted path in the YAML.
        rule: Text that follows the path, such as "must be >= 1".
        got: Invalid value. NOTHING if the fault is the path itself.
        choices: Valid values.
        suggestion: Suggested value. Defaults to the choice that is most similar to `got`.
        detail: Text that follows `rule`, such as the method that the key belongs to. Faults
            with a value that differ only in `detail` are reported once.
        advice: Sentence that says what to do if there is no suggestion, without a full stop.
    """

    path: str
    rule: str
    got: Any = NOTHING
    choices: tuple[str, ...] = ()
    suggestion: str | None = None
    detail: str = ""
    advice: str = ""

    def line(self, source: str) -> str:
        """Return the fault as one line.

        Args:
            source: File or option that has the fault.
        """
        return f"{source}: {self.text}"

    @property
    def text(self) -> str:
        """Message without the source: what is wrong, the value, and a suggestion."""
        got = "" if self.got is NOTHING else f", got {show(self.got)}"
        hint = self.suggestion
        if hint is None and isinstance(self.got, str):
            hint = nearest(self.got, self.choices)
        notes = [f"did you mean {hint}?"] if hint else []
        notes += ["choices: " + ", ".join(self.choices)] if self.choices else []
        note = f" ({' '.join(notes)})" if notes else ""
        advice = f". {self.advice}" if self.advice and not hint else ""
        text = f"{self.path} {self.rule}{self.detail}{got}{note}{advice}"
        return printable(" ".join(text.strip().splitlines()))


def ray_address_fault(address: str) -> str | None:
    """Return the message that refuses an address of a Ray cluster, or None if it is valid.

    Ray Client is refused, also in RAY_ADDRESS. With it, Tune runs on the head node with pickled
    copies of the searcher and the callbacks: signals to this process would not reach them.
    """
    actual_address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    is_known = address in ("local", "auto") or _HOST_AND_PORT.fullmatch(address)
    if is_known and not actual_address.startswith("ray://"):
        return None
    source = "address" if actual_address == address else "RAY_ADDRESS"
    rule = "must be local, auto or HOST:PORT (Ray Client is not supported)"
    return Fault(source, rule, redacted(actual_address)).text
