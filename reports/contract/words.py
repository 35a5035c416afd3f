"""Texts that are shown: without what a terminal obeys; addresses of stores; one-line errors."""

import re
from unicodedata import bidirectional, category
from urllib.parse import urlsplit

from reports.contract.redaction import redacted

_NO_TEXT = frozenset({"Cc", "Cs"})
_NO_XML = frozenset({0xFFFE, 0xFFFF})
# What turns the order of the characters around it: text then reads as other than it is.
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def printable(text: str) -> str:
    """A text in which characters that a terminal or a page would obey are spelled out."""
    return "".join(
        character.encode("unicode_escape").decode()
        if category(character) in _NO_TEXT
        or bidirectional(character) in _TURNING
        or ord(character) in _NO_XML
        else character
        for character in text
    )


def printable_lines(text: str) -> str:
    """As printable, of a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


SQLITE = "sqlite:///"
# Where a tracking server's clients keep files, itself or a cloud's storage. Not plain addresses: to
# any of them MLflow would send the token of the tracking server.
SERVED = ("mlflow-artifacts", "s3", "gs", "abfss", "wasbs", "dbfs", "hdfs")
# Some versions of SQLAlchemy take this for the character that it stands for, others do not.
_ENCODED = re.compile("%[0-9A-Fa-f]{2}")
# What follows a user and password: a host, a port, a path and, of a database, options.
_PLACE = re.compile(r"(\[[^\s/?#@\[\]]+\]|[^\s/?#@\[\]:]*)(:\d*)?(/[^\s?#]*)?(\?\S*)?")


def address_fault(uri: str) -> str | None:
    """What is wrong with a store's address; None: nothing that can be seen by looking at it.

    Where it is not well formed, nobody knows which part of it is a password: none of it is shown,
    and no library gets it, whose errors show pieces of it.
    """
    if uri.startswith(SQLITE):
        return _options_fault(uri)
    if re.match("(?i)sqlite[:+]", uri):  # sqlite:// is gone with the process
        return f"an sqlite store is a file: write {SQLITE}FILE"
    if _is_well_formed(uri):
        return None
    return (
        "the store's address is not well formed, and is not shown, as it may hold a password: in a "
        "user or password write @ / ? # and spaces as %40 %2F %3F %23 and %20; a tracking server "
        "has a host and perhaps a port, and takes no options (MLFLOW_TRACKING_URI)"
    )


def _options_fault(uri: str) -> str | None:
    """What is wrong with an sqlite store's address that has options.

    A store is known by its address: its lock, and the writes that wait for it, would be another's
    with ?timeout=30 behind it. What an address cannot hold is a fault, too: a path with ? or %40.
    """
    plain, mark, rest = uri.partition("?")
    if "/" in rest or _ENCODED.search(plain):
        return (
            f"{uri}: the address of an sqlite store can have no ? and no % with two digits in its "
            f"path: name a store in another folder (MLFLOW_TRACKING_URI)"
        )
    return f"{uri}: an sqlite store takes no options: write {plain}" if mark else None


def _is_well_formed(uri: str) -> bool:
    """Whether all that read an address agree on its user, password and host.

    SQLAlchemy takes a slash in a password, urllib does not. A path, and file:///, have no user.
    """
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return re.match("(?s)[^/]*:.*@", uri) is None
    if ":" in scheme:  # it is a user, and the mark stands in the password
        return False
    if uri.startswith("file:///"):
        return True
    user, _, place = rest.rpartition("@")
    found = _PLACE.fullmatch(place)
    if found is None or re.search(r"[\s@?#]", user) or "/" in user.partition(":")[0]:
        return False
    if scheme.lower() not in ("http", "https"):
        return True
    host, _, _, options = found.groups()
    return bool(host) and options is None and "/" not in user


def count(number: int, what: str) -> str:
    """E.g. "1 seed", "3 seeds"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def error_text(error: BaseException) -> str:
    """Return an error's text, or "" where a plugin's error raises another one in place of it."""
    try:
        return str(error)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that is not blank, or its type's name."""
    lines = (line.strip() for line in error_text(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def store_fault(error: BaseException, uri: str) -> str:
    """Return why a store cannot be used, in one line that may hold secrets of its address.

    `mlflow server` answers 403 to a host name that it was not started for (--allowed-hosts).
    """
    if "Invalid Host header" not in error_text(error):
        return first_line(error)
    host = urlsplit(uri).netloc.rpartition("@")[2]
    return f"the server does not accept the host name {host}. Start it with --allowed-hosts {host}"


class ReportError(ValueError):
    """One line about why no report can be made, without secrets."""

    def __init__(self, line: str) -> None:
        super().__init__(printable(redacted(line)))


class EmptyStudyError(ReportError):
    """The study exists and none of its runs has ended."""
