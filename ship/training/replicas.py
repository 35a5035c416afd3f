"""Replicas: all seeds of a trial side by side, along a leading dimension of every tensor.

AdamW and SGD are elementwise and a trial's loss is the sum of its replicas' losses, so a replica
that is trained beside others takes the same steps as it would alone. What could leak between them,
and therefore lives here, is randomness: every replica draws from streams of its own.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ship.training.state import CheckpointError, State, capture, restore, taken, under
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
        self._streams = [stream_of(seed, purpose) for seed in seeds]
        self._device = torch.device(device)
        self._dtype = dtype

    def normal(self, *shape: int) -> Tensor:
        """Standard normal noise, (replica, *shape)."""
        draws = [torch.randn(shape, generator=s, dtype=self._dtype) for s in self._streams]
        return sent(torch.stack(draws), self._device)

    def integers(self, high: int, size: int) -> Int[Tensor, "replica size"]:
        """Uniform integers in [0, high)."""
        draws = [torch.randint(high, (size,), generator=s) for s in self._streams]
        return sent(torch.stack(draws), self._device)

    def permutation(self, replica: int, n: int) -> Int[Tensor, " n"]:
        """A permutation of range(n) from one replica's stream, on the CPU."""
        return torch.randperm(n, generator=self._streams[replica])

    def state_dict(self) -> State:
        """Where each stream is, (replica, bytes)."""
        return {"streams": torch.stack([stream.get_state() for stream in self._streams])}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put each stream back to where it was saved, (replica, bytes)."""
        held = taken(state, "streams", self.state_dict()["streams"])
        for stream, place in zip(self._streams, held, strict=True):
            try:
                stream.set_state(place.clone())  # torch reads past a view that is not aligned
            except RuntimeError as error:
                raise CheckpointError(f"no state of a random stream: {error}") from error


def stream_of(seed: int, purpose: str) -> torch.Generator:
    """The random stream of a seed and a purpose, from its start; it draws on the CPU."""
    digest = hashlib.blake2b(f"{purpose}/{seed}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


class BatchStream:
    """Batches of indices in shuffled order, without end; every item equally often.

    A batch may span two shuffles, so that all batches have one size whatever the counts are.
    """

    def __init__(self, counts: Sequence[int], rng: ReplicaRng) -> None:
        if min(counts) < 1:
            raise ValueError(f"every replica needs at least one item, got counts {list(counts)}")
        self._counts = list(counts)
        self._rng = rng
        self._left = [torch.empty(0, dtype=torch.long) for _ in counts]

    def next(self, size: int) -> Int[Tensor, "replica size"]:
        """The next `size` indices of every replica, on the CPU."""
        return torch.stack([self._take(replica, size) for replica in range(len(self._counts))])

    def _take(self, replica: int, size: int) -> Tensor:
        left = self._left[replica]
        while len(left) < size:
            left = torch.cat([left, self._rng.permutation(replica, self._counts[replica])])
        self._left[replica] = left[size:]
        return left[:size]

    def state_dict(self) -> State:
        """What is left of each replica's shuffle, and its stream."""
        left = {f"left.{replica}": rows.clone() for replica, rows in enumerate(self._left)}
        return {**left, **capture({"rng": self._rng})}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back each replica's shuffle and its stream as they were saved."""
        left = []
        for replica, count in enumerate(self._counts):
            rows = state.get(f"left.{replica}")
            fits = rows is not None and rows.dtype == torch.long and rows.ndim == 1
            if rows is None or not fits or bool(((rows < 0) | (rows >= count)).any()):
                raise CheckpointError(f"replica {replica} has no shuffle of {count} items left")
            left.append(rows.clone())
        restore(self._rng, under(state, "rng"))
        self._left = left


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
