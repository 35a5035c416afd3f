"""Secrets in store addresses, masked wherever a text is shown or written."""

import re

_MASK = "***"
# the user of a database is no secret, that of a web address may be a token
_WEB_USER = re.compile(r"(?i)\b(https?://)[^\s/]+@")
_PASSWORD = re.compile(r"(://[^\s/@:]*):[^\s/]+@")
_QUERY = re.compile(r"(?i)([?&](?:\w*password|passwd|\w*token|\w*secret)=)[^&\s'\"]+")


def redacted(text: str) -> str:
    """A text without the passwords and tokens of the addresses in it.

    E.g. postgresql://me:***@host/mlflow. What is no address stays as it is.
    """
    text = _PASSWORD.sub(rf"\1:{_MASK}@", text)
    text = _WEB_USER.sub(rf"\1{_MASK}@", text)
    return _QUERY.sub(rf"\1{_MASK}", text)
