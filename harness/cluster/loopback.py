"""A Ray of this machine's own: it listens on loopback alone, and asks for a token of its own.

By itself Ray listens on every interface of the machine, and keeps its token in the user's home,
where its file is as readable as the umask leaves it.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

MODE: Final = "RAY_AUTH_MODE"
TOKEN: Final = "RAY_AUTH_TOKEN"
TOKEN_PATH: Final = "RAY_AUTH_TOKEN_PATH"
_CLUSTERS: Final = "ENABLE_RAY_CLUSTER"


@contextmanager
def private_token() -> Iterator[None]:
    """A Ray that is started inside, and its processes, ask for a random token of 256 bits.

    It stands in the environment, which other users cannot read, and in no file. Whatever the user
    has set of Ray's authentication stays: a token of his, or RAY_AUTH_MODE=disabled.
    """
    own = {MODE: "token", TOKEN: secrets.token_hex(32)}
    if os.environ.get(MODE, "token").lower() != "token":
        own = {}
    elif os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH):
        own = {MODE: "token"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    _reread()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _reread()


@contextmanager
def loopback() -> Iterator[None]:
    """The address of a node that is started inside is 127.0.0.1, so that its services bind to it.

    Ray does so by itself on macOS and Windows, and has no argument that asks for it elsewhere:
    _node_ip_address="127.0.0.1" is turned into the address of an interface. Where Ray has no such
    switch any more, nothing is changed; a test looks at what listens.
    """
    from ray._private import ray_constants

    clusters = getattr(ray_constants, _CLUSTERS, None)
    if clusters is None:
        yield
        return
    setattr(ray_constants, _CLUSTERS, False)
    try:
        yield
    finally:
        setattr(ray_constants, _CLUSTERS, clusters)


def _reread() -> None:
    """Let Ray's core in this process read mode and token again, which it does but once."""
    from ray import _raylet

    core: Any = _raylet
    # in this order: a core that still asks for a token must find one
    loader = core.AuthenticationTokenLoader.instance()
    core.Config.initialize("")
    loader.reset_cache()
