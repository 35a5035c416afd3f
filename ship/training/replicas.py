"""Replicas: all seeds of a trial side by side, along a leading dimension of every tensor.

AdamW and SGD are elementwise and a trial's loss is the sum of its replicas' losses, so a replica
that is trained beside others takes the same steps as it would alone. What could leak between them,
and therefore lives here, is randomness: every replica draws from streams of its own.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ship.transfer import sent


class ReplicaRng:
    """One random stream per seed; what a seed draws does not depend on which others run beside it.

    Streams are named by purpose, so that every setting of a study starts from the same noise.
    Draws are made on the CPU and sent, so that they are the same on every device.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        purpose: str,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._named = (tuple(seeds), purpose)
        self._streams = [stream_of(seed, purpose) for seed in seeds]
        self._device = torch.device(device)
        self._dtype = dtype

    def at(self, step: int) -> "ReplicaRng":
        """The streams of one step, from their start: nothing of them has to be kept for the next.

        What a step draws does not depend on how much others drew before it.
        """
        seeds, purpose = self._named
        return ReplicaRng(seeds, f"{purpose}/{step}", self._device, self._dtype)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal noise, (replica, *shape)."""
        draws = [torch.randn(shape, generator=s, dtype=self._dtype) for s in self._streams]
        return sent(torch.stack(draws), self._device)

    def integers(self, high: int, size: int) -> Int[Tensor, "replica size"]:
        """Uniform integers in [0, high)."""
        draws = [torch.randint(high, (size,), generator=s) for s in self._streams]
        return sent(torch.stack(draws), self._device)


def stream_of(seed: int, purpose: str) -> torch.Generator:
    """The random stream of a seed and a purpose, from its start; it draws on the CPU."""
    digest = hashlib.blake2b(f"{purpose}/{seed}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


class BatchStream:
    """Batches of indices in shuffled order, without end; every item equally often.

    A batch may span two shuffles, so that all batches have one size whatever the counts are.
    """

    def __init__(
        self, counts: Sequence[int], size: int, seeds: Sequence[int], purpose: str
    ) -> None:
        """Name the streams.

        Args:
            counts: items of each replica.
            size: of a batch.
            seeds: of each replica.
            purpose: names the streams.
        """
        if min(counts) < 1:
            raise ValueError(f"every replica needs at least one item, got counts {list(counts)}")
        self._replicas = list(zip(counts, seeds, strict=True))
        self._size = size
        self._purpose = purpose

    def at(self, step: int) -> Int[Tensor, "replica size"]:
        """The indices of a step, from 0, of every replica; on the CPU."""
        return torch.stack([self._rows(step, *replica) for replica in self._replicas])

    def _rows(self, step: int, count: int, seed: int) -> Int[Tensor, " size"]:
        first = step * self._size
        shuffles = range(first // count, (first + self._size - 1) // count + 1)
        streams = (stream_of(seed, f"{self._purpose}/{shuffle}") for shuffle in shuffles)
        drawn = torch.cat([torch.randperm(count, generator=stream) for stream in streams])
        return drawn[first % count :][: self._size]


def steps_per_epoch(n_items: int, batch_size: int) -> int:
    """Steps that show every item once; depends on the setting alone, not on a seed's draw."""
    return max(1, math.ceil(n_items / batch_size))


def gather_rows(
    table: Shaped[Tensor, "replica n *rest"], index: Int[Tensor, "replica m"]
) -> Shaped[Tensor, "replica m *rest"]:
    """table[r, index[r]] for every replica r."""
    replicas = torch.arange(len(table), device=table.device).unsqueeze(1)
    return table[replicas, index]


def random_views(
    features: Float[Tensor, "replica n view feature"],
    rows: Int[Tensor, "replica m"],
    rng: ReplicaRng,
) -> Float[Tensor, "replica m feature"]:
    """features[r, rows[r]] in a random view each, for every replica r.

    Args:
        features: views of each picture.
        rows: pictures that are wanted of each replica.
        rng: a stream for each replica.
    """
    views = rng.integers(features.shape[2], rows.shape[1])
    replicas = torch.arange(len(features), device=features.device).unsqueeze(1)
    return features[replicas, rows, views]
