"""Errors that the user can fix. The command line prints them and exits with 2 or 3."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.wording import (
    escape_controls,
    escape_controls_in_lines,
    find_closest,
    mask_secrets,
    show,
)

_HOST_AND_PORT = re.compile(r"([^\s:/]+|\[[0-9a-fA-F:.]+\]):\d+")  # the host may be [IPv6]


class UserError(ValueError):
    """An error that the user can fix. The command prints it without a traceback and exits with 2.

    The exit code is 3 for errors that end a running study: StoreUnavailable, StudyLost and RayLost.
    Passwords and tokens of addresses in the message are masked.
    """

    def __init__(self, message: str) -> None:
        """Create the error.

        Args:
            message: Message. Control characters other than line breaks are escaped.
        """
        super().__init__(escape_controls_in_lines(mask_secrets(message)))


class SingleLineError(UserError):
    """A user error whose message is one line."""

    def __init__(self, message: str) -> None:
        """Create the error.

        Args:
            message: Message. Control characters, including line breaks, are escaped.
        """
        super().__init__(escape_controls(message))


class ConfigError(UserError):
    """A study, or an argument of a function, is invalid. str() has one line for each fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        """Create the error.

        Args:
            faults: One line for each fault.
        """
        super().__init__("\n".join(faults))

    @property
    def faults(self) -> list[str]:
        """Lines of the message, one per fault."""
        return str(self).split("\n")


class ClusterError(UserError):
    """Ray or the cluster cannot run the study."""


class RayLost(UserError):
    """Ray has died while a study was running."""

    def __init__(self, cause: str) -> None:
        """Create the error.

        Args:
            cause: Which of Ray's processes died, and how.
        """
        super().__init__(f"Ray has died ({cause}). Run the same command to resume")


# Sentinel for "no value". It is not None, because None is YAML's null, which a user can write.
NOTHING = object()


@dataclass(frozen=True)
class Fault:
    """One fault of a study. Its message is `text`.

    Attributes:
        path: Dotted path in the YAML, with which the message begins.
        problem: Text that follows the path, such as "must be >= 1" or "is an unknown key".
        got: Invalid value. NOTHING if the message contains no value, e.g. for an unknown key.
        choices: Valid values, or keys. () if the message lists none.
        suggestion: Suggested value or key. Defaults to the choice most similar to `got`, if there
            is one.
        detail: Text that follows `problem`, such as the method that the key belongs to. If several
            methods reject the same value, their faults differ only in `detail`, and
            harness.config.load reports only one of them.
        reason: Why the value is invalid, without a full stop. It follows the value.
        advice: Sentence that says what to do, without a full stop. It is left out if there is a
            suggestion.
    """

    path: str
    problem: str
    got: Any = NOTHING
    choices: tuple[str, ...] = ()
    suggestion: str | None = None
    detail: str = ""
    reason: str = ""
    advice: str = ""

    def format_line(self, source: str) -> str:
        """Return the fault as one line that begins with its source.

        Args:
            source: File or option that contains the fault.
        """
        return f"{source}: {self.text}"

    @property
    def text(self) -> str:
        """Message without the source: the attributes as one line that begins with `path`."""
        value = "" if self.got is NOTHING else f", got {show(self.got)}"
        suggestion = self.suggestion
        if suggestion is None and isinstance(self.got, str):
            suggestion = find_closest(self.got, self.choices)
        notes = [f"did you mean {suggestion}?"] if suggestion else []
        notes += ["choices: " + ", ".join(self.choices)] if self.choices else []
        note = f" ({' '.join(notes)})" if notes else ""
        reason = f": {self.reason}" if self.reason else ""
        advice = f". {self.advice}" if self.advice and not suggestion else ""
        text = f"{self.path} {self.problem}{self.detail}{value}{reason}{note}{advice}"
        return escape_controls(" ".join(text.strip().splitlines()))


def find_ray_address_fault(address: str) -> str | None:
    """Return what is wrong with the address of a Ray cluster, or None if it is valid.

    For `auto`, the environment variable RAY_ADDRESS is checked as well, unless it is empty.
    Addresses of Ray Client (ray://) are refused. With these, Tune would run on the head node, where
    Ctrl-C in this process would not reach it.
    """
    name = "address"
    if address == "auto" and (environment_address := os.environ.get("RAY_ADDRESS")):
        name, address = "RAY_ADDRESS", environment_address
    if address in ("local", "auto") or _HOST_AND_PORT.fullmatch(address):
        return None
    problem = "must be local, auto or HOST:PORT (Ray Client is not supported)"
    return Fault(name, problem, mask_secrets(address)).text
