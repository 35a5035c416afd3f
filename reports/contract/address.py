"""What may stand in a store's address, for whoever writes to it and whoever reads it."""

SQLITE = "sqlite:///"


def options_fault(uri: str) -> str | None:
    """What is wrong with an sqlite store's address that has options; None: it has none.

    A store is known by its address: its lock, and the writes that wait for it, would be another's
    with ?timeout=30 behind it.
    """
    plain, mark, _ = uri.partition("?")
    if not mark or not uri.startswith(SQLITE):
        return None
    return f"{uri}: an sqlite store takes no options: write {plain}"
