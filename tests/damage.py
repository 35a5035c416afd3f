"""Damaged files: changed bytes and truncated ends."""

from hypothesis import strategies as st

# Pairs of (position, bits to flip there), and the number of bytes to keep. None keeps all of them.
Damage = tuple[list[tuple[int, int]], int | None]
DAMAGE: st.SearchStrategy[Damage] = st.tuples(
    st.lists(st.tuples(st.integers(0), st.integers(1, 255)), max_size=4), st.none() | st.integers(0)
)


def apply_damage(content: bytes, damage: Damage) -> bytes:
    """Return a file's content with damage. Positions beyond its length wrap around."""
    flips, n_kept = damage
    changed = bytearray(content)
    for position, bits in flips:
        changed[position % len(changed)] ^= bits
    return bytes(changed if n_kept is None else changed[: n_kept % (len(changed) + 1)])
