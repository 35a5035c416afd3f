"""Remove the secrets of addresses from texts."""

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

_MASK = "***"
# Everything that may be a user or password, up to the last @, even if a slash is missing. After
# sqlite:/// and file:///, also with only one slash, there is a path instead.
_USER = re.compile(
    r"(?:(?<!/)(?!(?:(?<=sqlite:)|(?<=file:))///)//|(?<=\w:)(?<!sqlite:)(?<!file:)/)\S*@"
)
# Any option's value may be a token. The name of the first option and the punctuation after the
# address stay.
_OPTIONS = re.compile(r"(\?[^\s=?]*=)\S+?(?=[:)'\"]?(?:\s|$))")
# Scheme, user and password of an address, up to its last @ and up to its first @.
_LOGINS = tuple(re.compile(rf"\b(\w+)(?<!sqlite)(?<!file)://(\S+{end})@") for end in ("", "?"))
_SECRET_OPTION = re.compile(r"(?i)[?&][^\s=&]*(?:pass|pwd|token|key|secret)[^\s=&]*=([^\s&'\"]+)")
_SHORT = 4  # a shorter secret is masked only if no letter or digit is next to it
_TOKEN = 16  # a user of at least this length may be a token
_SERVERS = ("http", "https", "databricks")  # a user without a password is a token


def redacted(text: str, *addresses: str) -> str:
    """Return a text with the possible secrets of addresses masked.

    Users, passwords and options are masked in each address in the text, e.g.
    postgresql://***@host/mlflow?password=***. The same secrets are masked in the rest of the text,
    because some errors quote parts of an address. Text without addresses is not changed.

    Args:
        text: Text to show.
        addresses: Addresses whose secrets are masked, in addition to those in the text.
    """
    spellings = {
        spelling
        for address in (text, *addresses)
        for secret in _secrets(address)
        for spelling in _spellings(secret)
    }
    masked_text = _OPTIONS.sub(rf"\1{_MASK}", _USER.sub(f"//{_MASK}@", text))
    for spelling in sorted(spellings, key=len, reverse=True):
        pattern = re.escape(spelling)
        if len(spelling) < _SHORT:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        masked_text = re.sub(pattern, _MASK, masked_text)
    return masked_text


def _secrets(text: str) -> Iterator[str]:
    """Yield the passwords and tokens of the addresses in a text.

    The user of a server is a token if there is no password, or if it is as long as a token.
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
    """Yield the forms of a secret in errors: unchanged, decoded, encoded, and as Python's repr."""
    decoded = unquote(secret)
    for spelling in (secret, decoded, quote(decoded, safe=""), repr(decoded)[1:-1]):
        if spelling.strip("*"):  # otherwise it is masked already
            yield spelling
