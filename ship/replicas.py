"""Replicas: all seeds of a trial side by side, along a leading dimension of every tensor.

AdamW and SGD are elementwise and a trial's loss is the sum of its replicas' losses, so a replica
that is trained beside others takes the same steps as it would alone. What could leak between them,
and therefore lives here, is randomness: every replica draws from streams of its own.

Between host and device nobody waits where that can be avoided. A copy from pageable memory, and
each value that is read on the host, makes the host wait until the device has done all that it was
given before. In a training step there must be none.
"""

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.optim import Optimizer

from ship.state import CheckpointError, State, capture, copied, taken


def sent(value: Tensor, device: torch.device) -> Tensor:
    """A tensor that was made on the host, on the device; the host does not wait for the copy.

    Args:
        value: on the CPU; nobody may write to it any more. One that is there already is itself.
        device: where it is wanted; on a CPU it is the tensor itself.
    """
    if device.type == value.device.type:
        return value
    return value.pin_memory().to(device, non_blocking=True)


def fetched(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, all of them with one copy, so that the host waits once.

    Args:
        values: of one device or the CPU; numbers that double precision holds exactly, which is
            every float32, every bool, and every whole number up to 2^53.

    Returns:
        By the same names in the same order, in their own types and shapes.
    """
    away = {name: value for name, value in values.items() if value.device.type != "cpu"}
    if not away:
        return dict(values)
    host = torch.cat([value.reshape(-1).double() for value in away.values()]).cpu()
    parts = host.split([value.numel() for value in away.values()])
    found = {
        name: part.reshape(value.shape).to(value.dtype)
        for (name, value), part in zip(away.items(), parts, strict=True)
    }
    return {name: found.get(name, value) for name, value in values.items()}


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
    """Batches of indices in shuffled order, without end; by default every item equally often.

    A batch may span two shuffles, so that all batches have one size whatever the counts are.
    """

    def __init__(
        self,
        counts: Sequence[int],
        size: int,
        seeds: Sequence[int],
        purpose: str,
        epoch_steps: int | None = None,
    ) -> None:
        """Name the streams.

        Args:
            counts: items of each replica.
            size: of a batch.
            seeds: of each replica.
            purpose: names the streams.
            epoch_steps: Steps after which the rest of a shuffle is dropped. None: nothing is.
        """
        if min(counts) < 1:
            raise ValueError(f"every replica needs at least one item, got counts {list(counts)}")
        self._replicas = list(zip(counts, seeds, strict=True))
        self._size = size
        self._purpose = purpose
        self._epoch_steps = epoch_steps

    def at(self, step: int) -> Int[Tensor, "replica size"]:
        """The indices of a step, from 0, of every replica; on the CPU."""
        return torch.stack([self._rows(step, *replica) for replica in self._replicas])

    def _rows(self, step: int, count: int, seed: int) -> Int[Tensor, " size"]:
        first = step * self._size
        if self._epoch_steps is not None:
            epoch, step_of_epoch = divmod(step, self._epoch_steps)
            shuffles_of_epoch = math.ceil(self._epoch_steps * self._size / count)
            first = epoch * shuffles_of_epoch * count + step_of_epoch * self._size
        shuffles = range(first // count, (first + self._size - 1) // count + 1)
        streams = (stream_of(seed, f"{self._purpose}/{shuffle}") for shuffle in shuffles)
        drawn = torch.cat([torch.randperm(count, generator=stream) for stream in streams])
        return drawn[first % count :][: self._size]


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


class ReplicaOptimizer:
    """A torch optimizer over stacked parameters: a replica takes the very steps it takes alone.

    Only for optimizers that are elementwise (SGD, Adam, AdamW).
    """

    def __init__(
        self,
        kind: Callable[..., Optimizer],
        parameters: Sequence[Float[Tensor, "replica ..."]],
        lr: float,
        factors: Sequence[float] | None = None,
        **settings: Any,
    ) -> None:
        """Build it.

        Args:
            kind: makes the inner optimizer of parameter groups and of its `settings`.
            parameters: leaves, stacked along their first dimension.
            lr: learning rate.
            factors: on the learning rate of each parameter; None: 1.
            settings: others of the inner optimizer, such as its momentum.
        """
        # one launch a step instead of a dozen; on a CPU the plain loop, whose numbers are on record
        self._fused = any(parameter.device.type != "cpu" for parameter in parameters)
        if self._fused and "fused" in inspect.signature(kind).parameters:
            settings["fused"] = True
        factors = factors or [1.0] * len(parameters)
        groups: list[dict[str, Any]] = []
        for factor in dict.fromkeys(factors):
            scaled = [p for p, own in zip(parameters, factors, strict=True) if own == factor]
            groups.append({"params": scaled, "lr": factor * lr, "initial_lr": factor * lr})
        self._inner = kind(groups, **settings)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._inner.zero_grad()

    @torch.no_grad()
    def step(self, rates_of: Callable[[float], Sequence[float]] | None = None) -> None:
        """Take a step with the gradients that the parameters hold.

        Args:
            rates_of: Maps a learning rate as it was set to each seed's rate in this step. Defaults
                to the rate as it was set.
        """
        if rates_of is None:
            self._inner.step()
            return
        groups = self._inner.param_groups
        rates = [rates_of(group["initial_lr"]) for group in groups]
        if all(len(set(by_seed)) == 1 for by_seed in rates):
            for group, by_seed in zip(groups, rates, strict=True):
                group["lr"] = by_seed[0]
            self._inner.step()
            return
        # A torch optimizer has one rate per group. The updates of SGD, Adam and AdamW are linear in
        # it, so each seed's share of a step at the full rate is its step at its own rate.
        before = [[parameter.clone() for parameter in group["params"]] for group in groups]
        for group in groups:
            group["lr"] = group["initial_lr"]
        self._inner.step()
        for group, by_seed, starts in zip(groups, rates, before, strict=True):
            shares = torch.tensor(by_seed, dtype=torch.float64) / group["initial_lr"]
            for parameter, start in zip(group["params"], starts, strict=True):
                share = sent(shares.to(parameter.dtype), parameter.device)
                share = share.reshape(-1, *[1] * (parameter.ndim - 1))
                parameter.copy_(torch.lerp(start, parameter, share.expand_as(parameter)))

    def state_dict(self) -> State:
        """What the inner optimizer remembers of each parameter."""
        found = {}
        for place, parameter in enumerate(self._held()):
            for name, value in self._inner.state.get(parameter, {}).items():
                if value is not None:
                    found[f"{place}.{name}"] = copied(value)
        return found

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put it back; the parameters themselves are their owner's."""
        held = self._held()
        for key, value in state.items():
            place, _, name = key.partition(".")
            if not place.isdecimal() or int(place) >= len(held):
                raise CheckpointError(f"the optimizer has no parameter {place}")
            parameter = held[int(place)]
            if value.ndim and value.shape != parameter.shape:
                raise CheckpointError(f"{name} of parameter {place} has shape {[*value.shape]}")
            # a step counter stays on the CPU, where torch keeps it but in a fused step
            device = parameter.device if value.ndim or self._fused else value.device
            self._inner.state[parameter][name] = value.to(device, copy=True)

    def _held(self) -> list[Tensor]:
        return [parameter for group in self._inner.param_groups for parameter in group["params"]]


class Kept:
    """Tensors by name, (replica, ...) each: every replica's as they were when it took them last."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors: State = dict(tensors)

    def take(self, where: Bool[Tensor, " replica"], new: Mapping[str, Tensor]) -> None:
        """Take over some replicas' tensors.

        Args:
            where: those replicas, on the CPU or where the new tensors are.
            new: (replica, ...) each, on any device. A name that was not there is taken for all.
        """
        for name, value in new.items():
            those = sent(where, value.device).reshape(-1, *[1] * (value.ndim - 1))
            # what a checkpoint gave back is on the CPU
            old = self.tensors.get(name, value).to(value.device)
            self.tensors[name] = torch.where(those, value, old)

    def state_dict(self) -> State:
        """The tensors, as copies on the CPU."""
        return capture(self.tensors)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave of as many replicas.

        What is held already goes where it is held; the rest stays on the CPU until it is used.
        """
        held = {name: taken(state, name, like).to(like) for name, like in self.tensors.items()}
        self.tensors = {**state, **held}
