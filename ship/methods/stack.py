"""Seeds of a method as one: their parameters and buffers stacked, their functions under vmap.

A function that is written for many rows may be folded: called for one seed, under vmap the seeds
are its rows. What such a function does to save work (packing, grouping by length, fused kernels) it
then does for all seeds, and autograd records its own operations; vmap is not asked what to make of
them. It needs the public rule for vmap of a torch.autograd.Function alone, whose forward is never
run. Gradients are taken outside of vmap: a sum of losses, and backward.

What fitting and tuning share of training them step by step is Fused.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence
from torch.utils._pytree import tree_map

from ship.clip import FrozenCLIP
from ship.methods.contract import Method, Rng
from ship.replicas import BatchStream, ReplicaOptimizer, ReplicaRng, sent
from ship.state import Part, State, capture, taken, under
from ship.tasks import SeedTask, Task

ALL: Final = slice(None)
_PLAIN: Final = (bool, int, float, str, type(None))
# of every module; what parameters and buffers hold is to differ
_TORCHS_OWN: Final = frozenset(vars(nn.Module()))


_MAPPED: ContextVar[bool] = ContextVar("mapped", default=False)


@contextmanager
def mapped() -> Iterator[None]:
    """Inside, folded functions are called under vmap over the seeds."""
    token = _MAPPED.set(True)
    try:
        yield
    finally:
        _MAPPED.reset(token)


def folded(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let the code of one seed call a function that is written for all seeds.

    The function has a leading axis of seeds on its tensors and its result; its caller has none.
    Outside of vmap that axis has length 1; under vmap the function is called once, with all seeds.

    Args:
        function: of tensors with a leading axis, and of what is the same for all seeds.
    """

    def call(*inputs: Any) -> Tensor:
        if _MAPPED.get():
            made: Tensor = _Fold.apply(function, *inputs)  # type: ignore[no-untyped-call]
            return made
        return function(*(x.unsqueeze(0) if isinstance(x, Tensor) else x for x in inputs))[0]

    return call


class _Fold(torch.autograd.Function):
    @staticmethod
    def forward(*_: Any) -> Tensor:
        raise RuntimeError("a folded function was called under another transform than vmap")

    @staticmethod
    def setup_context(*_: Any) -> None:
        """Nothing is kept: autograd sees the function's own operations."""

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, function: Callable[..., Tensor], *inputs: Any
    ) -> tuple[Tensor, int]:
        """The function of all seeds' tensors, each with their axis in front."""
        places = in_dims[1:]
        own = (_leading(x, at, info.batch_size) for x, at in zip(inputs, places, strict=True))
        return function(*own), 0


plus_product = folded(torch.baddbmm)
"""bias + x @ weight, as of one seed."""


def _leading(value: Any, place: int | None, n: int) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.expand(n, *value.shape) if place is None else value.movedim(place, 0)


class Stack:
    """Methods of one class, one for each seed.

    Attributes:
        one: the first of them, without values: for what is the same for all seeds.
        state: parameters and buffers, (replica, ...) each, by name.
        trained: of these, parameters with a gradient.
        learned: of these, parameters and persistent buffers; those of its `rows` under that name.

    Raises:
        ValueError: they differ in something that is neither parameter nor buffer.
    """

    def __init__(self, ones: Sequence[Method], device: torch.device) -> None:
        self.one = ones[0]
        self._n = len(ones)
        _require_distinct(self.one)
        for other in ones[1:]:
            _require_alike(self.one, other)
        # a tensor may stand under two names, such as the seen classes
        held = [
            {
                **dict(one.named_parameters(remove_duplicate=False)),
                **dict(one.named_buffers(remove_duplicate=False)),
            }
            for one in ones
        ]
        self.state = {
            name: _stacked([own[name].detach() for own in held], device) for name in held[0]
        }
        kept = self.one.state_dict().keys()
        self.learned: dict[str, Part] = {n: v for n, v in self.state.items() if n in kept}
        if (rows := self.one.rows) is not None:
            own = {n: v for n, v in self.learned.items() if not n.startswith(f"{rows}.")}
            self.learned = {**own, rows: _Rows(under(self.state, rows))}
        self.trained = {
            name: self.state[name].requires_grad_()
            for name, value in self.one.named_parameters()
            if value.requires_grad
        }
        _empty(self.one)

    def optimizer(self, module: str = "") -> ReplicaOptimizer:
        """The method's optimizer of what is trained in one of its modules; "": of all of it."""
        kind, settings = self.one.optimizer()
        moved = under(self.trained, module) if module else self.trained
        return ReplicaOptimizer(kind, [*moved.values()], **settings)

    def __call__(
        self, name: str, *batched: Tensor | None, shared: Sequence[Any] = (), seeds: slice = ALL
    ) -> Any:
        """A function of all seeds.

        Args:
            name: of the method's function.
            batched: its inputs with a leading replica axis.
            shared: its further inputs, which are the same for all seeds.
            seeds: some of them alone, of which `batched` then is.

        Returns:
            What it returns, with a leading replica axis.
        """
        if not self.one.vmapped or not (self.state or batched):
            n = len(range(self._n)[seeds])
            rows: list[Any] = [[None] * n if x is None else x for x in batched]
            return self.in_turn(name, *rows, *([x] * n for x in shared), seeds=seeds)
        axes = [None if x is None else 0 for x in batched] + [None] * len(shared)
        state = self.state
        if seeds != ALL:  # a slice of all would be a step of its own in the gradient
            state = {own: value[seeds] for own, value in state.items()}

        def one(state: dict[str, Tensor], *inputs: Any) -> Any:
            return functional_call(self.one, state, (name, *inputs))

        try:
            with mapped():
                return torch.vmap(one, in_dims=(0, *axes))(state, *batched, *shared)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            raise RuntimeError(
                f"{type(self.one).__name__}.{name} cannot run for all seeds at once: it reads a "
                f"value, has a size that depends on one, or draws; vmapped = False lets seeds run "
                f"in turn ({str(error).splitlines()[0][:150]})"
            ) from error

    def in_turn(self, name: str, *inputs: Sequence[Any] | Tensor, seeds: slice = ALL) -> Any:
        """A function of one seed after the other, whose inputs may differ in size.

        Args:
            name: of the method's function.
            inputs: each one of all seeds.
            seeds: some of them alone, of which inputs then are.

        Returns:
            What it returns, of one size for all seeds, with a leading replica axis.
        """
        found = [
            functional_call(
                self.one,
                {own: value[replica] for own, value in self.state.items()},
                (name, *(each[place] for each in inputs)),
            )
            for place, replica in enumerate(range(self._n)[seeds])
        ]
        return tree_map(lambda *each: torch.stack(each), *found)


class _Rows:
    """Tensors of equally many rows, (replica, n, ...), of which a file may have another number."""

    def __init__(self, held: Mapping[str, Tensor]) -> None:
        self._held = held

    def state_dict(self) -> State:
        """Copies of them."""
        return capture(self._held)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave, of any number of rows, which all of them then have."""
        numbers = [value.shape[1] for value in state.values() if value.ndim > 1]
        for name, held in self._held.items():
            shape = (len(held), *numbers[:1], *held.shape[2:])
            like = torch.empty(shape, dtype=held.dtype, device="meta")
            held.data = taken(state, name, like).to(held.device, copy=True)


def _stacked(values: list[Tensor], device: torch.device) -> Tensor:
    """Of the seeds; behind fewer rows than others have, zeros, or the place -1, which is none."""
    if len({value.shape for value in values}) == 1:
        found = torch.stack(values)
    else:
        places = not values[0].is_floating_point() and values[0].dtype != torch.bool
        filling = -1 if places else 0
        found = pad_sequence(values, batch_first=True, padding_value=filling)
    return sent(found, device) if found.device.type == "cpu" else found


def _require_alike(one: nn.Module, other: nn.Module) -> None:
    """A tensor that is no buffer is the same for all seeds: under vmap the first one's is used."""
    ours, theirs = dict(one.named_modules()), dict(other.named_modules())
    if list(ours) != list(theirs):
        raise ValueError(f"modules differ by seed: {sorted(set(ours) ^ set(theirs))}")
    for name, module in ours.items():
        for key, value in vars(module).items():
            if key not in _TORCHS_OWN and _differ(value, vars(theirs[name]).get(key)):
                raise ValueError(f"{name}.{key} differs by seed: register_buffer it".lstrip("."))


def _differ(one: Any, other: Any) -> bool:
    """Whether arrays, numbers or words differ, alone or in containers; nothing else is seen."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is not other and not torch.equal(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return not np.array_equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) != list(other) or any(_differ(v, other[k]) for k, v in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) != len(other) or any(map(_differ, one, other))
    return isinstance(one, _PLAIN) and bool(one != other)


def _require_distinct(one: nn.Module) -> None:
    """Of a parameter under two names, one would be trained and the other one not."""
    names = {id(value): name for name, value in one.named_parameters()}
    for name, value in one.named_parameters(remove_duplicate=False):
        if names[id(value)] != name:
            raise ValueError(f"{names[id(value)]} and {name} are one parameter: give it one name")


def _empty(module: nn.Module) -> None:
    """Without values: what reads past the stack fails."""
    for inner in module.modules():
        for held in (inner._parameters, inner._buffers):
            for name, value in held.items():
                if value is not None:
                    held[name] = torch.empty_like(value, device="meta")  # type: ignore[assignment]


class Fused:
    """One method for each seed, run as one.

    stack: the methods. one: the first of them, for what is the same for all seeds.
    epochs: that train_epoch is to be called for; 0: nothing is trained by steps.
    """

    steps = 0  # of an epoch
    _moved: ClassVar[str] = ""
    """The module whose parameters an epoch's steps move; "": all of them are."""

    def __init__(
        self,
        kind: type[Method],
        config: Any,
        tasks: Sequence[SeedTask],
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        pairs = zip(tasks, seeds, strict=True)
        ones = [kind(config, own, clip, partial(Rng, seed, own.features)) for own, seed in pairs]
        self.one = ones[0]
        self.stack = Stack(ones, tasks[0].features.device)
        self.epochs = 0
        self._done = torch.zeros((), dtype=torch.long)  # steps

    def _train_by_steps(self, config: Any, rows: Task, seeds: Sequence[int]) -> None:
        """Let an epoch be one pass over a task's rows in batches, a random view of each."""
        name, device = self.one.stream, rows.features.device
        self._rows, self._batch_size = rows, min(config.batch_size, rows.n_nominal)
        drop_last = getattr(config, "drop_last", False)
        # that show every row once; they depend on the setting alone, not on a seed's draw
        whole, rest = divmod(rows.n_nominal, self._batch_size)
        self.steps = whole if drop_last or not rest else whole + 1
        self._batches = BatchStream(
            rows.counts,
            self._batch_size,
            seeds,
            f"{name}/batches",
            epoch_steps=self.steps if drop_last else None,
        )
        self._views = ReplicaRng(seeds, f"{name}/views", device)
        self._optimizer = self.stack.optimizer(self._moved)

    def _pass(self) -> dict[str, Float[Tensor, " replica"]]:
        """The next epoch's steps: the means of what they tell, by name."""
        sums: dict[str, Tensor] = {}
        for _ in range(self.steps):
            for name, value in self._turn(int(self._done)).items():
                sums[name] = sums.get(name, 0) + value
            self._done += 1
        return {name: value / self.steps for name, value in sums.items()}

    def _turn(self, step: int) -> dict[str, Float[Tensor, " replica"]]:
        """Take a step, counted from 0 over all epochs; what it tells, by name."""
        raise NotImplementedError


def require_settings(config: Any, *names: str) -> None:
    """Look whether settings have what running a method takes.

    Raises:
        TypeError: they lack some of it.
    """
    if lacking := [name for name in names if not hasattr(config, name)]:
        raise TypeError(
            f"{config.name} is trained, so that its settings must have {' and '.join(lacking)}"
        )
