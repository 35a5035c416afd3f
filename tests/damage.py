"""Damaged files: changed bytes and truncated ends."""

from hypothesis import strategies as st

# (place, bits that are turned there) of some bytes, and how much is kept; None: all
Damage = tuple[list[tuple[int, int]], int | None]
DAMAGE: st.SearchStrategy[Damage] = st.tuples(
    st.lists(st.tuples(st.integers(0), st.integers(1, 255)), max_size=4), st.none() | st.integers(0)
)


def damaged(content: bytes, damage: Damage) -> bytes:
    """Return a file's content with damage. Positions beyond its length wrap around."""
    flips, kept = damage
    changed = bytearray(content)
    for place, bits in flips:
        changed[place % len(changed)] ^= bits
    return bytes(changed if kept is None else changed[: kept % (len(changed) + 1)])
