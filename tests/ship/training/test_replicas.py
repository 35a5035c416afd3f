"""Randomness and shapes of fused replicas."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ship.replicas import BatchStream, ReplicaRng


def test_a_seeds_draws_do_not_depend_on_its_neighbours() -> None:
    """Seed 7 draws the same alone, first or last; for another purpose it draws otherwise."""
    alone = ReplicaRng([7], "x").normal(4)
    assert torch.equal(ReplicaRng([3, 7], "x").normal(4)[1], alone[0])
    assert torch.equal(ReplicaRng([7, 3], "x").normal(4)[0], alone[0])
    assert not torch.equal(ReplicaRng([7], "y").normal(4), alone)


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=3), size=st.integers(1, 7))
def test_batches_show_every_item_equally_often(counts: list[int], size: int) -> None:
    """After any number of batches, two items' counts differ by at most one."""
    stream = BatchStream(counts, size, range(len(counts)), "batches")
    taken = torch.cat([stream.at(step) for step in range(5)], dim=1)
    for row, count in zip(taken, counts, strict=True):
        times = torch.bincount(row, minlength=count)
        assert len(times) == count and int(times.max() - times.min()) <= 1


def test_batches_refuse_an_empty_replica() -> None:
    """A replica without items cannot be trained."""
    with pytest.raises(ValueError, match="at least one item"):
        BatchStream([3, 0], 2, [0, 1], "batches")
