"""Texts without the secrets of the addresses in them."""

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

_MASK = "***"
# All that may be a user or password, up to the last @, also where a slash lacks. Behind sqlite:///
# and file:///, and behind one slash of theirs, is a path.
_USER = re.compile(
    r"(?:(?<!/)(?!(?:(?<=sqlite:)|(?<=file:))///)//|(?<=\w:)(?<!sqlite:)(?<!file:)/)\S*@"
)
# What options say may be a token, whatever their names; the first name stays, and so does what ends
# the address in a sentence.
_OPTIONS = re.compile(r"(\?[^\s=?]*=)\S+?(?=[:)'\"]?(?:\s|$))")
# Scheme, and user and password of an address: up to its last @, and up to its first.
_LOGINS = tuple(re.compile(rf"\b(\w+)(?<!sqlite)(?<!file)://(\S+{end})@") for end in ("", "?"))
_SECRET_OPTION = re.compile(r"(?i)[?&][^\s=&]*(?:pass|pwd|token|key|secret)[^\s=&]*=([^\s&'\"]+)")
_SHORT = 4  # a shorter secret is only masked where no letter or digit is next to it
_TOKEN = 16  # a user of this length may be a token
_SERVERS = ("http", "https", "databricks")  # a lone user is a token there


def redacted(text: str, *addresses: str) -> str:
    """Return a text without what may be a secret of an address.

    Masks users, passwords and options in each address in the text, e.g.
    postgresql://***@host/mlflow?password=***, and their secrets elsewhere in it: some errors quote
    an address in pieces. Text without addresses stays as it is.

    Args:
        text: The text to be shown.
        addresses: Addresses whose secrets are masked, in addition to those in the text.
    """
    spellings = {
        spelling
        for address in (text, *addresses)
        for secret in _secrets(address)
        for spelling in _spellings(secret)
    }
    shown = _OPTIONS.sub(rf"\1{_MASK}", _USER.sub(f"//{_MASK}@", text))
    for spelling in sorted(spellings, key=len, reverse=True):
        pattern = re.escape(spelling)
        if len(spelling) < _SHORT:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        shown = re.sub(pattern, _MASK, shown)
    return shown


def _secrets(text: str) -> Iterator[str]:
    """Yield the passwords and tokens of the addresses in a text.

    A server's user is a token where it has no password, or is as long as a token.
    """
    for pattern in _LOGINS:
        for scheme, login in pattern.findall(text):
            user, _, password = login.partition(":")
            if password:
                yield password
            if scheme in _SERVERS and (not password or len(user) >= _TOKEN):
                yield user
    for value in _SECRET_OPTION.findall(text):
        yield value.rstrip(":)")


def _spellings(secret: str) -> Iterator[str]:
    """Yield the ways an error may spell a secret: as it is, decoded, encoded, as Python."""
    plain = unquote(secret)
    for spelling in (secret, plain, quote(plain, safe=""), repr(plain)[1:-1]):
        if spelling.strip("*"):  # else it was masked before
            yield spelling
