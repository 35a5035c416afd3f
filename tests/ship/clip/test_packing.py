"""Names packed behind a context: every token once, and none that sees another name's."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ship.clip.text import pack

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=60)


@given(lengths=LENGTHS, p=st.integers(1, 20), most=st.integers(4, 64))
def test_every_name_is_whole_and_apart(lengths: list[int], p: int, most: int) -> None:
    """Its tokens stand in order up to its end, and see the context and each other alone."""
    made = pack(torch.device("cpu"), torch.float32, p, tuple(lengths), most)
    sequences, room = made.classes.shape
    t, k = p + room, made.ends.shape[1]
    assert made.mask.shape[:2] == (sequences, t) and made.mask.shape[2] % 16 == 0
    taken = torch.zeros(sequences, t, dtype=torch.long)
    for name, length in enumerate(lengths):
        sequence, nth = divmod(int(made.order[name]), k)
        end = int(made.ends[sequence, nth])
        own = range(end + 1 - length, end + 1)
        assert min(own) >= p
        for offset, place in enumerate(own):
            taken[sequence, place] += 1
            assert made.classes[sequence, place - p] == name
            assert made.offsets[sequence, place - p] == offset
            seen = {c for c in range(t) if made.mask[sequence, place, c] == 0}
            assert seen == {*range(p), *range(own.start, place + 1)}
    assert taken.max() == 1 and taken.sum() == sum(lengths)
    for place in range(p):
        assert (made.mask[:, place, : place + 1] == 0).all()
        assert (made.mask[:, place, place + 1 :] == -torch.inf).all()
    assert (made.mask[:, :, :t] == 0).any(-1).all()  # else a row's softmax would be NaN


@given(lengths=LENGTHS, p=st.integers(1, 20), most=st.integers(4, 64))
def test_sequences_are_few_and_short(lengths: list[int], p: int, most: int) -> None:
    """No longer than asked for, or than the longest name needs; no two are less than half full."""
    made = pack(torch.device("cpu"), torch.float32, p, tuple(lengths), most)
    sequences, room = made.classes.shape
    largest = max(max(lengths), most - p)
    assert room <= largest
    assert sequences <= 2 * sum(lengths) // largest + 1
