"""Mask the passwords and tokens in addresses before they are shown or stored.

Too much is masked rather than too little: a password is also masked where it is an ordinary word.
With the password `mlflow`, the name of the table mlflow_runs becomes ***_runs.
"""

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

_MASK = "***"
# The login of an address, with the slashes before it and the @ after it. The malformed addresses
# http:///me:x@host and http:/me:x@host contain a login, too. sqlite:///a@b and file:/a@b contain
# none, because they are paths.
_LOGIN = re.compile(
    r"""
    (?:
        (?<!/)(?!(?:(?<=sqlite:)|(?<=file:))///)//  # two slashes, unless they begin a path
        |(?<=\w:)(?<!sqlite:)(?<!file:)/  # one slash after a scheme, unless it begins a path
    )
    \S*@  # up to the last @
    """,
    re.VERBOSE,
)
# The query string of an address: ?a=1&token=x becomes ?a=***. Punctuation after the address stays.
_QUERY = re.compile(r"(\?[^\s=?]*=)\S+?(?=[:)'\"]?(?:\s|$))")
# Scheme and login (user:password) of an address with one to three slashes. A password may contain
# @, and a text may contain several addresses, so there is a pattern for the longest match and one
# for the shortest.
_SCHEME_AND_LOGIN = tuple(
    re.compile(rf"\b(\w+)(?<!sqlite)(?<!file):/{{1,3}}(\S+{end})@") for end in ("", "?")
)
_SECRET_PARAMETER = re.compile(
    r"(?i)[?&][^\s=&]*(?:pass|pwd|token|key|secret)[^\s=&]*=([^\s&'\"]+)"
)
_MIN_SUBSTRING_LENGTH = 4  # shorter secrets are masked only as whole words
# A user name of at least this length may be a token, even if a password follows it.
_MIN_TOKEN_LENGTH = 16
# Schemes of addresses in which the user name may be a token.
_TOKEN_SCHEMES = ("http", "https", "databricks")


def mask_secrets(text: str, *addresses: str) -> str:
    """Mask the logins and query strings of all addresses in a text.

    The result looks like postgresql://***@host/mlflow?password=***. Passwords and tokens are also
    masked in the rest of the text, because some errors quote parts of an address.

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
    masked_text = _QUERY.sub(rf"\1{_MASK}", _LOGIN.sub(f"//{_MASK}@", text))
    for spelling in sorted(spellings, key=len, reverse=True):
        pattern = re.escape(spelling)
        if len(spelling) < _MIN_SUBSTRING_LENGTH:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        masked_text = re.sub(pattern, _MASK, masked_text)
    return masked_text


def _iter_secrets(text: str) -> Iterator[str]:
    """Yield the passwords and tokens of the addresses in a text.

    In an address with one of _TOKEN_SCHEMES, the user name counts as a token if no password follows
    it, or if the user name has at least _MIN_TOKEN_LENGTH characters.
    """
    for pattern in _SCHEME_AND_LOGIN:
        for scheme, login in pattern.findall(text):
            user, _, password = login.partition(":")
            if password:
                yield password
            if scheme in _TOKEN_SCHEMES and (not password or len(user) >= _MIN_TOKEN_LENGTH):
                yield user
    for value in _SECRET_PARAMETER.findall(text):
        yield value.rstrip(":)")


def _iter_spellings(secret: str) -> Iterator[str]:
    """Yield how errors may spell a secret: unchanged, URL-decoded, URL-encoded, or as repr."""
    decoded = unquote(secret)
    for spelling in (secret, decoded, quote(decoded, safe=""), repr(decoded)[1:-1]):
        if spelling.strip("*"):  # otherwise it is a mask already
            yield spelling
