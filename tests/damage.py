"""Files that were damaged: other bytes here and there, and an end that is cut off."""

from hypothesis import strategies as st

# (place, bits that are turned there) of some bytes, and how much is kept; None: all
Damage = tuple[list[tuple[int, int]], int | None]
DAMAGE: st.SearchStrategy[Damage] = st.tuples(
    st.lists(st.tuples(st.integers(0), st.integers(1, 255)), max_size=4), st.none() | st.integers(0)
)


def damaged(content: bytes, damage: Damage) -> bytes:
    """A file's content after it; numbers beyond its length count anew from its beginning."""
    flips, kept = damage
    found = bytearray(content)
    for place, bits in flips:
        found[place % len(found)] ^= bits
    return bytes(found if kept is None else found[: kept % (len(found) + 1)])
