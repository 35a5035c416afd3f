"""Environment variables for a while."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def environment(settings: Mapping[str, str], *, over: bool = False) -> Iterator[None]:
    """Environment variables for a while, then it is all as before.

    Args:
        settings: name -> value.
        over: whether they replace what the user has set; else that stays.
    """
    chosen = {name: value for name, value in settings.items() if over or name not in os.environ}
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
