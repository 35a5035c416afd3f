"""Secrets in store addresses, masked wherever a text is shown or written."""

import hashlib
import re

_MASK = "***"
# All that may be a user or password, up to the last @, also where a slash lacks. Behind sqlite:///
# and file:///, and behind one slash of theirs, is a path.
_USER = re.compile(
    r"(?:(?<!/)(?!(?:(?<=sqlite:)|(?<=file:))///)//|(?<=\w:)(?<!sqlite:)(?<!file:)/)\S*@"
)
# What options say may be a token, whatever their names; the first name stays, and so does what ends
# the address in a sentence.
_OPTIONS = re.compile(r"(\?[^\s=?]*=)\S+?(?=[:)'\"]?(?:\s|$))")
# What may change while a store stays the same one: passwords, the user of a web address, tokens.
_LOGIN = re.compile(r"(?i)(?<=http)(s?)://[^/]*@|:[^/@]*(?=@)")
_SECRET = re.compile(r"(?i)[?&](\w*password|passwd|\w*token|\w*secret|\w*key)=[^&]*")


def redacted(text: str) -> str:
    """A text without what may be a secret in the addresses in it.

    E.g. postgresql://***@host/mlflow?password=***. What is no address stays as it is.
    """
    return _OPTIONS.sub(rf"\1{_MASK}", _USER.sub(f"//{_MASK}@", text))


def store_key(address: str) -> str:
    """The same for every address of a store that differs in its passwords and tokens alone.

    It can be written down: of what else an address says, such as a schema, it is a digest.
    """
    without = _SECRET.sub("", _LOGIN.sub(r"\1://", address))
    return hashlib.blake2b(without.encode(), digest_size=8).hexdigest()
