"""Randomness and shapes of fused replicas."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ship.training.replicas import (
    BatchStream,
    ReplicaLinear,
    ReplicaRng,
    gather_rows,
    steps_per_epoch,
)


def test_a_seeds_draws_do_not_depend_on_its_neighbours() -> None:
    """Seed 7 draws the same alone, first or last."""
    alone = ReplicaRng([7], "x").normal(4)
    assert torch.equal(ReplicaRng([3, 7], "x").normal(4)[1], alone[0])
    assert torch.equal(ReplicaRng([7, 3], "x").normal(4)[0], alone[0])


def test_purposes_are_independent_streams() -> None:
    """Drawing for one purpose does not move another."""
    assert not torch.equal(ReplicaRng([0], "a").normal(4), ReplicaRng([0], "b").normal(4))


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=3), size=st.integers(1, 7))
def test_batches_show_every_item_equally_often(counts: list[int], size: int) -> None:
    """After any number of batches, two items' counts differ by at most one."""
    stream = BatchStream(counts, ReplicaRng(range(len(counts)), "batches"))
    taken = torch.cat([stream.next(size) for _ in range(5)], dim=1)
    for row, count in zip(taken, counts, strict=True):
        times = torch.bincount(row, minlength=count)
        assert len(times) == count and int(times.max() - times.min()) <= 1


def test_batches_refuse_an_empty_replica() -> None:
    """A replica without items cannot be trained."""
    with pytest.raises(ValueError, match="at least one item"):
        BatchStream([3, 0], ReplicaRng([0, 1], "batches"))


def test_linear_is_one_affine_map_a_replica() -> None:
    """Each replica's output is its own weights' alone."""
    layer = ReplicaLinear(3, 2, ReplicaRng([0, 1], "w"))
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    for replica in range(2):
        expected = x[replica] @ layer.weight[replica] + layer.bias[replica]
        torch.testing.assert_close(layer(x)[replica], expected)


def test_gather_rows() -> None:
    """Row r of the result is taken from table r."""
    table = torch.arange(12.0).reshape(2, 3, 2)
    got = gather_rows(table, torch.tensor([[2, 0], [1, 1]]))
    assert got.tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]


def test_steps_per_epoch() -> None:
    """The last, smaller batch counts as a step."""
    assert [steps_per_epoch(n, 4) for n in (1, 4, 5)] == [1, 1, 2]
