"""Texts that may be somebody else's, as a terminal or a page shows them."""

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unicodedata import bidirectional, category

_NO_TEXT = frozenset({"Cc", "Cs"})
# What turns the order of the characters around it: text then reads as other than it is.
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
READER_GONE = 141


def is_text(character: str) -> bool:
    """Whether a character is shown as itself, and is no command to what shows it."""
    return category(character) not in _NO_TEXT and bidirectional(character) not in _TURNING


def printable(text: str) -> str:
    """A text in which characters that a terminal or a page would obey are spelled out."""
    return "".join(
        character if is_text(character) else character.encode("unicode_escape").decode()
        for character in text
    )


def printable_lines(text: str) -> str:
    """As printable, of a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def steady_output() -> None:
    """Let standard output show ? for what the terminal's encoding has not, e.g. ± in locale C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Where a command inside fails because nobody reads what it prints, it ends with 141.

    That is what a shell says of a program that SIGPIPE ends (128 + 13), as in `ship-report NAME |
    true`. The signal itself stays ignored: it would end the program where a server closes a
    connection, too. rich and click each make an exit code 1 of what printing into a closed pipe
    raises.
    """
    try:
        output = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # no standard output at all
        yield
        return
    try:
        yield
    except SystemExit as end:
        if end.code == 1 and _has_no_reader(output):
            raise SystemExit(READER_GONE) from None
        raise
    finally:
        os.close(output)


def _has_no_reader(output: int) -> bool:
    """Whether a file descriptor is a pipe whose other end was closed."""
    poll = select.poll()
    poll.register(output, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
