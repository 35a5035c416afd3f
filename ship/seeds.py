"""The seeds of a trial, trained together along a leading dimension of every tensor.

AdamW and SGD are elementwise and a trial's loss is the sum of its seeds' losses, so each seed takes
the same steps as in a solo run. Only random draws could depend on the other seeds. Each seed
therefore has its own random streams (torch.Generator objects).

Transfers between host and device avoid synchronization. A copy from pageable memory, or reading a
value on the host, waits until the device has finished all earlier work. Training steps must not
contain such waits.
"""

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.optim import Optimizer

from ship.prefetch import Draw, Prefetcher, Request
from ship.state import CheckpointError, State, Stateful, capture, copy_to_cpu, require_tensor


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host to a device without waiting for the copy.

    Args:
        value: Tensor on the CPU, which must not be modified afterwards.
        device: Target device.

    Returns:
        The copy, or `value` itself if it is already on a device of this type.
    """
    if device.type == value.device.type:
        return value
    return value.pin_memory().to(device, non_blocking=True)


def to_cpu(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU with a single transfer, so that the host waits once.

    Args:
        values: Tensors on the CPU and on at most one other device. Their numbers must be exact in
            double precision: floats, bools, and integers up to 2^53.

    Returns:
        The tensors by the same names in the same order, with unchanged types and shapes.
    """
    remote = {name: value for name, value in values.items() if value.device.type != "cpu"}
    if not remote:
        return dict(values)
    host = torch.cat([value.reshape(-1).double() for value in remote.values()]).cpu()
    parts = host.split([value.numel() for value in remote.values()])
    copies = {
        name: part.reshape(value.shape).to(value.dtype)
        for (name, value), part in zip(remote.items(), parts, strict=True)
    }
    return {name: copies.get(name, value) for name, value in values.items()}


class SeedRng:
    """One random stream per seed. A seed's draws do not depend on the other seeds of the trial.

    A stream is determined by seed and purpose only, so that all configurations of a study start
    from the same noise. Draws are made on the CPU and copied, so that they are the same on every
    device.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        purpose: str,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Create the streams.

        Args:
            seeds: Seeds of the trial.
            purpose: Name of the streams, e.g. "vae/noise".
            device: Device of the results.
            dtype: Data type of normal noise.
        """
        self._seeds, self._purpose = tuple(seeds), purpose
        self._device = torch.device(device)
        self._dtype = dtype
        self._draw: Draw = SeedDraws(seeds, purpose, dtype)
        self._prefetcher: Prefetcher | None = None

    def at(self, step: int) -> "SeedRng":
        """Return new streams for one step. They do not depend on the draws of earlier steps."""
        rng = SeedRng(self._seeds, self._purpose_at(step), self._device, self._dtype)
        if self._device.type != "cpu":  # on a CPU the step itself uses all cores
            if self._prefetcher is None:
                self._prefetcher = Prefetcher(
                    lambda number: SeedDraws(self._seeds, self._purpose_at(number), self._dtype)
                )
            rng._draw = self._prefetcher.at(step)
        return rng

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal noise, (seed, *shape)."""
        return to_device(self._draw(("normal", shape)), self._device)

    def integers(self, high: int, size: int) -> Int[Tensor, "seed size"]:
        """Draw uniform integers in [0, high)."""
        return to_device(self._draw(("integers", (high, size))), self._device)

    def _purpose_at(self, step: int) -> str:
        return f"{self._purpose}/{step}"


class SeedDraws:
    """Draws on the CPU from one stream per seed. The streams are created at the first draw."""

    def __init__(self, seeds: Sequence[int], purpose: str, dtype: torch.dtype) -> None:
        self._seeds, self._purpose, self._dtype = seeds, purpose, dtype

    def __call__(self, request: Request) -> Tensor:
        """Return the next draw of each stream for a request, (seed, ...)."""
        kind, numbers = request
        if kind == "normal":
            return torch.stack(
                [
                    torch.randn(numbers, generator=stream, dtype=self._dtype)
                    for stream in self._streams
                ]
            )
        high, size = numbers
        return torch.stack(
            [torch.randint(high, (size,), generator=stream) for stream in self._streams]
        )

    @cached_property
    def _streams(self) -> list[torch.Generator]:
        return [make_stream(seed, self._purpose) for seed in self._seeds]


def make_stream(seed: int, purpose: str) -> torch.Generator:
    """Return a new random stream for a seed and a purpose. It draws on the CPU."""
    digest = hashlib.blake2b(f"{purpose}/{seed}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


class BatchStream:
    """Endless batches of shuffled indices, from a separate stream for each seed.

    All batches have the same size: a batch that reaches the end of a shuffle continues with the
    next shuffle.
    """

    def __init__(
        self,
        counts: Sequence[int],
        size: int,
        seeds: Sequence[int],
        purpose: str,
        epoch_steps: int | None = None,
    ) -> None:
        """Create the streams.

        Args:
            counts: Number of items of each seed.
            size: Batch size.
            seeds: Seeds of the trial.
            purpose: Name of the random streams.
            epoch_steps: Number of steps after which a new shuffle starts and the rest of the old
                one is dropped. None drops nothing, so that all items occur equally often.

        Raises:
            ValueError: A seed has no items.
        """
        if min(counts) < 1:
            raise ValueError(f"every seed needs at least one item, got counts {list(counts)}")
        self._counts_and_seeds = list(zip(counts, seeds, strict=True))
        self._size = size
        self._purpose = purpose
        self._epoch_steps = epoch_steps
        # seed -> number of a shuffle -> shuffled indices; only the shuffles that the last step used
        self._shuffled: dict[int, dict[int, Tensor]] = {seed: {} for seed in seeds}

    def at(self, step: int) -> Int[Tensor, "seed size"]:
        """Return the indices of every seed for a step, on the CPU.

        Args:
            step: Number of the step, from 0.
        """
        return torch.stack(
            [self._draw_indices(step, count, seed) for count, seed in self._counts_and_seeds]
        )

    def _draw_indices(self, step: int, count: int, seed: int) -> Int[Tensor, " size"]:
        first = step * self._size
        if self._epoch_steps is not None:
            epoch, step_of_epoch = divmod(step, self._epoch_steps)
            shuffles_of_epoch = math.ceil(self._epoch_steps * self._size / count)
            first = epoch * shuffles_of_epoch * count + step_of_epoch * self._size
        shuffles = range(first // count, (first + self._size - 1) // count + 1)
        cached = self._shuffled[seed]
        self._shuffled[seed] = {
            number: cached[number] if number in cached else self._shuffle(number, count, seed)
            for number in shuffles
        }
        indices = torch.cat([*self._shuffled[seed].values()])
        return indices[first % count :][: self._size]

    def _shuffle(self, number: int, count: int, seed: int) -> Int[Tensor, " count"]:
        return torch.randperm(count, generator=make_stream(seed, f"{self._purpose}/{number}"))


def gather_rows(
    table: Shaped[Tensor, "seed n *rest"], index: Int[Tensor, "seed m"]
) -> Shaped[Tensor, "seed m *rest"]:
    """Return table[r, index[r]] for every seed r."""
    seed_indices = torch.arange(len(table), device=table.device).unsqueeze(1)
    return table[seed_indices, index]


def draw_views(
    features: Float[Tensor, "seed n view feature"],
    rows: Int[Tensor, "seed m"],
    rng: SeedRng,
) -> Float[Tensor, "seed m feature"]:
    """Return features[r, rows[r]] for every seed r, each in a random view.

    Args:
        features: Image features in all views.
        rows: Indices of the images of each seed.
        rng: Random stream of each seed.
    """
    views = rng.integers(features.shape[2], rows.shape[1])
    seed_indices = torch.arange(len(features), device=features.device).unsqueeze(1)
    return features[seed_indices, rows, views]


class SeedOptimizer(Stateful):
    """A torch optimizer over stacked parameters. Each seed takes the same steps as in a solo run.

    Supports elementwise optimizers only (SGD, Adam, AdamW).
    """

    def __init__(
        self,
        kind: Callable[..., Optimizer],
        parameters: Sequence[Float[Tensor, "seed ..."]],
        lr: float,
        factors: Sequence[float] | None = None,
        **settings: Any,
    ) -> None:
        """Create the inner optimizer.

        Args:
            kind: Class of the inner optimizer, called with parameter groups and `settings`.
            parameters: Leaf tensors, with seeds stacked along the first dimension.
            lr: Learning rate.
            factors: Factor on the learning rate of each parameter. Defaults to 1.
            settings: Other options of the inner optimizer, e.g. its momentum.
        """
        # "fused" needs one kernel launch per step instead of a dozen. CPUs use torch's plain loop,
        # which reproduces earlier results.
        self._fused = any(parameter.device.type != "cpu" for parameter in parameters)
        if self._fused and "fused" in inspect.signature(kind).parameters:
            settings["fused"] = True
        factors = factors or [1.0] * len(parameters)
        groups: list[dict[str, Any]] = []
        for factor in dict.fromkeys(factors):
            group = [p for p, scale in zip(parameters, factors, strict=True) if scale == factor]
            groups.append({"params": group, "lr": factor * lr, "initial_lr": factor * lr})
        self._inner = kind(groups, **settings)

    def zero_grad(self) -> None:
        """Reset the gradients."""
        self._inner.zero_grad()

    @torch.no_grad()
    def step(self, rates_of: Callable[[float], Sequence[float]] | None = None) -> None:
        """Take a step with the gradients that the parameters hold.

        Args:
            rates_of: Function that maps an initial learning rate to each seed's rate in this step.
                None keeps the current rates.
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
        # it: all seeds take a step at the initial rate, of which each keeps the share
        # (rate / initial rate).
        before = [[parameter.clone() for parameter in group["params"]] for group in groups]
        for group in groups:
            group["lr"] = group["initial_lr"]
        self._inner.step()
        for group, by_seed, starts in zip(groups, rates, before, strict=True):
            shares = torch.tensor(by_seed, dtype=torch.float64) / group["initial_lr"]
            for parameter, start in zip(group["params"], starts, strict=True):
                share = to_device(shares.to(parameter.dtype), parameter.device)
                share = share.reshape(-1, *[1] * (parameter.ndim - 1))
                parameter.copy_(torch.lerp(start, parameter, share.expand_as(parameter)))

    def state_dict(self) -> State:
        """Return the inner optimizer's state as copies on the CPU, named PARAMETER_INDEX.NAME."""
        state = {}
        for i, parameter in enumerate(self._parameters()):
            for name, value in self._inner.state.get(parameter, {}).items():
                if value is not None:
                    state[f"{i}.{name}"] = copy_to_cpu(value)
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the result of state_dict(). The parameters themselves are not changed.

        Raises:
            CheckpointError: The state does not fit the parameters.
        """
        parameters = self._parameters()
        for key, value in state.items():
            number, _, name = key.partition(".")
            if not number.isdecimal() or int(number) >= len(parameters):
                raise CheckpointError(f"the optimizer has no parameter {number}")
            parameter = parameters[int(number)]
            if value.ndim and value.shape != parameter.shape:
                raise CheckpointError(
                    f"{name} of parameter {number} must have shape {[*parameter.shape]}, "
                    f"got {[*value.shape]}"
                )
            # torch keeps step counters on the CPU, except for fused optimizers
            device = parameter.device if value.ndim or self._fused else value.device
            self._inner.state[parameter][name] = value.to(device, copy=True)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self._inner.param_groups for parameter in group["params"]]


class SeedState(Stateful):
    """Tensors by name, (seed, ...) each, that can be updated for some seeds only."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors: State = dict(tensors)

    def set_where(self, where: Bool[Tensor, " seed"], tensors: Mapping[str, Tensor]) -> None:
        """Set the tensors of some seeds.

        Args:
            where: Mask of these seeds, on the CPU or on the device of the new tensors.
            tensors: New tensors, (seed, ...) each, on any device. A tensor under a new name is set
                for all seeds.
        """
        for name, value in tensors.items():
            mask = to_device(where, value.device).reshape(-1, *[1] * (value.ndim - 1))
            # tensors restored from a checkpoint are on the CPU
            previous = self.tensors.get(name, value).to(value.device)
            self.tensors[name] = torch.where(mask, value, previous)

    def state_dict(self) -> State:
        """Return the tensors, as copies on the CPU."""
        return capture(self.tensors)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the result of state_dict() for the same number of seeds.

        Tensors that replace current ones are moved to their devices. Others stay where they are.

        Raises:
            CheckpointError: The state lacks a current tensor, or contains it with another shape or
                type.
        """
        tensors = {
            name: require_tensor(state, name, like).to(like) for name, like in self.tensors.items()
        }
        self.tensors = {**state, **tensors}
