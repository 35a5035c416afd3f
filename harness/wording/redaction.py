"""Mask the passwords and tokens in addresses before they are shown or stored."""

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

_MASK = "***"
# User and password of an address: all text from // (or / if a slash is missing) to the last @.
# sqlite: and file: with one or three slashes are followed by a path instead.
_USER = re.compile(
    r"(?:(?<!/)(?!(?:(?<=sqlite:)|(?<=file:))///)//|(?<=\w:)(?<!sqlite:)(?<!file:)/)\S*@"
)
# All options of an address, any of which may be a token. Only the name of the first one and the
# punctuation after the address are kept.
_OPTIONS = re.compile(r"(\?[^\s=?]*=)\S+?(?=[:)'\"]?(?:\s|$))")
# Scheme and login (user:password) of an address: one pattern up to its last @, one up to its first.
_LOGINS = tuple(re.compile(rf"\b(\w+)(?<!sqlite)(?<!file)://(\S+{end})@") for end in ("", "?"))
_SECRET_OPTION = re.compile(r"(?i)[?&][^\s=&]*(?:pass|pwd|token|key|secret)[^\s=&]*=([^\s&'\"]+)")
_MIN_LENGTH = 4  # shorter secrets are masked only as whole words
_MIN_TOKEN_LENGTH = 16  # a user of at least this length may be a token
# Schemes whose user is a token if there is no password.
_TOKEN_SCHEMES = ("http", "https", "databricks")


def mask_secrets(text: str, *addresses: str) -> str:
    """Return a text with the possible secrets of addresses masked.

    In each address, the login and the options are masked:
    postgresql://***@host/mlflow?password=***. Passwords and tokens are also masked in the rest of
    the text, because some errors quote parts of an address.

    Args:
        text: Text to show.
        addresses: Addresses whose secrets the text may contain, in addition to its own addresses.
    """
    spellings = {
        spelling
        for address in (text, *addresses)
        for secret in _iter_secrets(address)
        for spelling in _iter_spellings(secret)
    }
    masked_text = _OPTIONS.sub(rf"\1{_MASK}", _USER.sub(f"//{_MASK}@", text))
    for spelling in sorted(spellings, key=len, reverse=True):
        pattern = re.escape(spelling)
        if len(spelling) < _MIN_LENGTH:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        masked_text = re.sub(pattern, _MASK, masked_text)
    return masked_text


def _iter_secrets(text: str) -> Iterator[str]:
    """Yield the passwords and tokens of the addresses in a text.

    A user at one of _TOKEN_SCHEMES may be a token if it has no password or is long enough.
    """
    for pattern in _LOGINS:
        for scheme, login in pattern.findall(text):
            user, _, password = login.partition(":")
            if password:
                yield password
            if scheme in _TOKEN_SCHEMES and (not password or len(user) >= _MIN_TOKEN_LENGTH):
                yield user
    for value in _SECRET_OPTION.findall(text):
        yield value.rstrip(":)")


def _iter_spellings(secret: str) -> Iterator[str]:
    """Yield how errors may spell a secret: unchanged, URL-decoded, URL-encoded, or as repr."""
    decoded = unquote(secret)
    for spelling in (secret, decoded, quote(decoded, safe=""), repr(decoded)[1:-1]):
        if spelling.strip("*"):  # otherwise it is a mask already
            yield spelling
