"""A Ray of this machine's own: it listens on loopback alone, and asks for a token of its own.

By itself Ray listens on every interface of the machine, and keeps its token in the user's home,
where its file is as readable as the umask leaves it.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from harness.cluster.ray_internals import loopback_addresses, reread_authentication

MODE: Final = "RAY_AUTH_MODE"
TOKEN: Final = "RAY_AUTH_TOKEN"
TOKEN_PATH: Final = "RAY_AUTH_TOKEN_PATH"


@contextmanager
def private_token() -> Iterator[None]:
    """A Ray that is started inside, and its processes, ask for a random token of 256 bits.

    It stands in the environment, which other users cannot read, and in no file. Whatever the user
    has set of Ray's authentication stays: a token of his, or RAY_AUTH_MODE=disabled. Where Ray
    cannot be made to read its environment again, its own authentication is left as it is: a core
    that does not know the token could not talk to processes that ask for it.
    """
    before = {name: os.environ.get(name) for name in (MODE, TOKEN)}
    os.environ.update(_own_settings())
    reread = reread_authentication()
    try:
        if not reread:
            _restore(before)
        yield
    finally:
        if reread:
            _restore(before)


@contextmanager
def loopback() -> Iterator[None]:
    """A Ray that is started inside listens on loopback alone, where Ray can be told so.

    A test looks at what listens.
    """
    with loopback_addresses():
        yield


def _own_settings() -> dict[str, str]:
    """What the environment lacks for a token to be asked for."""
    if os.environ.get(MODE, "token").lower() != "token":
        return {}
    if os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH):
        return {MODE: "token"}
    return {MODE: "token", TOKEN: secrets.token_hex(32)}


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    reread_authentication()
