"""Secrets in store addresses, masked wherever a text is shown or written."""

import re

_MASK = "***"
# All that may be a user or password, up to the last @. Behind sqlite:/// and file:/// is a path.
_USER = re.compile(r"(?<!/)(?!(?:(?<=sqlite:)|(?<=file:))///)//\S*@")
# What options say may be a token, whatever their names; the first name stays, and so does what ends
# the address in a sentence.
_OPTIONS = re.compile(r"(\?[^\s=?]*=)\S+?(?=[:)'\"]?(?:\s|$))")


def redacted(text: str) -> str:
    """A text without what may be a secret in the addresses in it.

    E.g. postgresql://***@host/mlflow?password=***. What is no address stays as it is.
    """
    return _OPTIONS.sub(rf"\1{_MASK}", _USER.sub(f"//{_MASK}@", text))
