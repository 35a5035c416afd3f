"""Run the methods of all seeds as one: `Stack` stacks their tensors and calls them under vmap.

A function *batched over seeds* is written with a leading seed axis, but called from code for one
seed. Under vmap it is called once, with the tensors of all seeds. It can therefore save work across
seeds (packing, grouping by length, fused kernels), and autograd records its operations directly
instead of vmap's decomposition. It is implemented by the public `vmap` rule of a
`torch.autograd.Function` whose forward is never run.

Gradients are computed outside of vmap, by the backward pass of the sum of the seeds' losses.

`BatchedTraining` is the training loop that generators and fine-tuners share.
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
from ship.methods.base import Method, Rng
from ship.seeds import BatchStream, SeedOptimizer, SeedRng, to_device
from ship.state import Part, State, capture, require_tensor, strip_prefix
from ship.tasks import SeedTask, Task

ALL: Final = slice(None)
_PLAIN: Final = (bool, int, float, str, type(None))
# Attributes of every nn.Module. They hold parameters and buffers, which may differ between seeds.
_TORCH_ATTRIBUTES: Final = frozenset(vars(nn.Module()))


_INSIDE_VMAP: ContextVar[bool] = ContextVar("inside_vmap", default=False)


@contextmanager
def inside_vmap() -> Iterator[None]:
    """Mark the code in this context as running under vmap over the seeds."""
    token = _INSIDE_VMAP.set(True)
    try:
        yield
    finally:
        _INSIDE_VMAP.reset(token)


def batched_over_seeds(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap a function that is written for all seeds, so that code for one seed can call it.

    Callers of the wrapper omit the leading seed axis of arguments and result. Under vmap the
    function is called once, with all seeds. Otherwise its seed axis has length 1.

    Args:
        function: Function of tensors with a leading seed axis, which returns such a tensor. Other
            arguments are the same for all seeds.
    """

    def call(*inputs: Any) -> Tensor:
        if _INSIDE_VMAP.get():
            result: Tensor = _BatchedOverSeeds.apply(function, *inputs)  # type: ignore[no-untyped-call]
            return result
        return function(*(x.unsqueeze(0) if isinstance(x, Tensor) else x for x in inputs))[0]

    return call


class _BatchedOverSeeds(torch.autograd.Function):
    @staticmethod
    def forward(*_: Any) -> Tensor:
        raise RuntimeError(
            "a function batched over seeds supports no transform other than torch.vmap"
        )

    @staticmethod
    def setup_context(*_: Any) -> None:
        """Save nothing, because autograd records the operations of the function itself."""

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, function: Callable[..., Tensor], *inputs: Any
    ) -> tuple[Tensor, int]:
        """Call the function with all seeds' tensors, with the seed axis first."""
        axes = in_dims[1:]
        values = (
            _move_seeds_first(x, axis, info.batch_size)
            for x, axis in zip(inputs, axes, strict=True)
        )
        return function(*values), 0


plus_product = batched_over_seeds(torch.baddbmm)
"""Return bias + x @ weight for the arguments (bias, x, weight) of one seed."""


def _move_seeds_first(value: Any, axis: int | None, n: int) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.expand(n, *value.shape) if axis is None else value.movedim(axis, 0)


class Stack:
    """Methods of one class, one for each seed.

    Attributes:
        prototype: Method of the first seed. Its plain attributes are the same for all seeds, and
            its tensors have no values.
        state: All parameters and buffers by name, (seed, ...) each.
        trained: Parameters that require gradients, by name.
        learned: Parameters and persistent buffers by name. The tensors of `Method.rows` form one
            entry.

    Raises:
        ValueError: The methods differ in a plain attribute, or a parameter has two names.
    """

    def __init__(self, methods: Sequence[Method], device: torch.device) -> None:
        self.prototype = methods[0]
        self._n = len(methods)
        _require_distinct(self.prototype)
        for method in methods[1:]:
            _require_alike(self.prototype, method)
        # A buffer may have two names, such as the mask of the seen classes.
        states = [
            {
                **dict(method.named_parameters(remove_duplicate=False)),
                **dict(method.named_buffers(remove_duplicate=False)),
            }
            for method in methods
        ]
        self.state = {
            name: _stack_seeds([state[name].detach() for state in states], device)
            for name in states[0]
        }
        saved_names = self.prototype.state_dict().keys()
        self.learned: dict[str, Part] = {n: v for n, v in self.state.items() if n in saved_names}
        if (rows := self.prototype.rows) is not None:
            parts = {n: v for n, v in self.learned.items() if not n.startswith(f"{rows}.")}
            self.learned = {**parts, rows: _Rows(strip_prefix(self.state, rows))}
        self.trained = {
            name: self.state[name].requires_grad_()
            for name, value in self.prototype.named_parameters()
            if value.requires_grad
        }
        _drop_values(self.prototype)

    def optimizer(self, module: str = "") -> SeedOptimizer:
        """Build the method's optimizer.

        Args:
            module: Name of the submodule whose parameters are trained. "" trains all parameters.
        """
        kind, settings = self.prototype.optimizer()
        parameters = strip_prefix(self.trained, module) if module else self.trained
        return SeedOptimizer(kind, [*parameters.values()], **settings)

    def __call__(
        self, name: str, *batched: Tensor | None, shared: Sequence[Any] = (), seeds: slice = ALL
    ) -> Any:
        """Call a function of the method for all seeds at once.

        Args:
            name: Name of the method's function.
            batched: Inputs with a leading seed axis. None is passed on unchanged.
            shared: Further inputs, which are the same for all seeds.
            seeds: Seeds to call the function for. `batched` must have only these seeds.

        Returns:
            The function's result with a leading seed axis.

        Raises:
            RuntimeError: The function cannot run under vmap, and the method is `vmapped`.
        """
        if not self.prototype.vmapped or not (self.state or batched):
            n = len(range(self._n)[seeds])
            rows: list[Any] = [[None] * n if x is None else x for x in batched]
            return self.call_in_turn(name, *rows, *([x] * n for x in shared), seeds=seeds)
        axes = [None if x is None else 0 for x in batched] + [None] * len(shared)
        state = self.state
        if seeds != ALL:  # slicing all seeds would add an operation to the autograd graph
            state = {key: value[seeds] for key, value in state.items()}

        def call(state: dict[str, Tensor], *inputs: Any) -> Any:
            return functional_call(self.prototype, state, (name, *inputs))

        try:
            with inside_vmap():
                return torch.vmap(call, in_dims=(0, *axes))(state, *batched, *shared)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            raise RuntimeError(
                f"{type(self.prototype).__name__}.{name} cannot run for all seeds at once: it "
                "reads a value, has a size that depends on a value, or draws random numbers. Set "
                f"vmapped = False to run the seeds in turn ({str(error).splitlines()[0][:150]})"
            ) from error

    def call_in_turn(self, name: str, *inputs: Sequence[Any] | Tensor, seeds: slice = ALL) -> Any:
        """Call a function of the method for one seed after the other.

        Args:
            name: Name of the method's function.
            inputs: Inputs, each with one entry per seed. Entries may differ in size.
            seeds: Seeds to call the function for. Inputs must have entries for only these seeds.

        Returns:
            The function's results, stacked along a leading seed axis. All seeds must return the
            same sizes.
        """
        results = [
            functional_call(
                self.prototype,
                {key: value[seed_index] for key, value in self.state.items()},
                (name, *(values[i] for values in inputs)),
            )
            for i, seed_index in enumerate(range(self._n)[seeds])
        ]
        return tree_map(lambda *values: torch.stack(values), *results)


class _Rows:
    """Tensors (seed, n, ...) with the same number n of rows. A state to load may have another n."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def state_dict(self) -> State:
        """Return copies of the tensors on the CPU."""
        return capture(self._tensors)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a state of `state_dict()` with any number of rows."""
        row_counts = [value.shape[1] for value in state.values() if value.ndim > 1]
        for name, tensor in self._tensors.items():
            shape = (len(tensor), *row_counts[:1], *tensor.shape[2:])
            like = torch.empty(shape, dtype=tensor.dtype, device="meta")
            tensor.data = require_tensor(state, name, like).to(tensor.device, copy=True)


def _stack_seeds(values: list[Tensor], device: torch.device) -> Tensor:
    """Stack the tensors of all seeds. Missing rows are padded with 0, or -1 for integers."""
    if len({value.shape for value in values}) == 1:
        tensor = torch.stack(values)
    else:
        are_integers = not values[0].is_floating_point() and values[0].dtype != torch.bool
        padding = -1 if are_integers else 0
        tensor = pad_sequence(values, batch_first=True, padding_value=padding)
    return to_device(tensor, device) if tensor.device.type == "cpu" else tensor


def _require_alike(first: nn.Module, second: nn.Module) -> None:
    """Raise ValueError if two seeds' methods differ in their modules or plain attributes.

    This is required because all seeds run with the modules and plain attributes of the first seed.
    """
    modules, counterparts = dict(first.named_modules()), dict(second.named_modules())
    if list(modules) != list(counterparts):
        raise ValueError(f"modules differ between seeds: {sorted({*modules} ^ {*counterparts})}")
    for name, module in modules.items():
        for key, value in vars(module).items():
            if key not in _TORCH_ATTRIBUTES and _differ(value, vars(counterparts[name]).get(key)):
                fault = f"{name}.{key} differs between seeds. Store it with register_buffer"
                raise ValueError(fault.lstrip("."))


def _differ(first: Any, second: Any) -> bool:
    """Return True if tensors, arrays, numbers or strings differ, also inside containers.

    Objects of other types count as equal.
    """
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first is not second and not torch.equal(first, second)
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return not np.array_equal(first, second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return list(first) != list(second) or any(_differ(v, second[k]) for k, v in first.items())
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) != len(second) or any(map(_differ, first, second))
    return isinstance(first, _PLAIN) and bool(first != second)


def _require_distinct(method: nn.Module) -> None:
    """Raise ValueError if a parameter has two names, because only one of them would be trained."""
    names = {id(value): name for name, value in method.named_parameters()}
    for name, value in method.named_parameters(remove_duplicate=False):
        if names[id(value)] != name:
            fault = f"{names[id(value)]} and {name} are the same parameter"
            raise ValueError(f"{fault}. Register it under one name")


def _drop_values(module: nn.Module) -> None:
    """Replace all tensors by meta tensors, so that code that bypasses the stack fails."""
    for inner in module.modules():
        for tensors in (inner._parameters, inner._buffers):
            for name, value in tensors.items():
                if value is not None:
                    empty = torch.empty_like(value, device="meta")
                    tensors[name] = empty  # type: ignore[assignment]


class BatchedTraining:
    """One method per seed, with all seeds trained together.

    Attributes:
        stack: The methods of all seeds.
        prototype: Method of the first seed. Its plain attributes are the same for all seeds.
        epochs: Number of epochs to call `train_epoch` for. 0 if nothing is trained in epochs.
        steps: Number of steps per epoch.
    """

    steps = 0
    _trained_module: ClassVar[str] = ""
    """Name of the submodule that the steps train. "" trains all parameters."""

    def __init__(
        self,
        kind: type[Method],
        config: Any,
        tasks: Sequence[SeedTask],
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        pairs = zip(tasks, seeds, strict=True)
        methods = [
            kind(config, task, clip, partial(Rng, seed, task.features)) for task, seed in pairs
        ]
        self.prototype = methods[0]
        self.stack = Stack(methods, tasks[0].features.device)
        self.epochs = 0
        self._done = torch.zeros((), dtype=torch.long)  # finished steps

    def _train_by_steps(self, config: Any, rows: Task, seeds: Sequence[int]) -> None:
        """Prepare training in steps. An epoch is a pass over the rows, each in a random view."""
        name, device = self.prototype.stream, rows.features.device
        self._rows, self._batch_size = rows, min(config.batch_size, rows.rows_per_epoch)
        drop_last = getattr(config, "drop_last", False)
        # rows_per_epoch depends on the configuration only, and so does the number of steps.
        n_full_batches, n_remaining = divmod(rows.rows_per_epoch, self._batch_size)
        self.steps = n_full_batches if drop_last or not n_remaining else n_full_batches + 1
        self._batches = BatchStream(
            rows.counts,
            self._batch_size,
            seeds,
            f"{name}/batches",
            epoch_steps=self.steps if drop_last else None,
        )
        self._views = SeedRng(seeds, f"{name}/views", device)
        self._optimizer = self.stack.optimizer(self._trained_module)

    def _train_pass(self) -> dict[str, Float[Tensor, " seed"]]:
        """Train one epoch and return the means of its steps' values, by name."""
        sums: dict[str, Tensor] = {}
        for _ in range(self.steps):
            for name, value in self._train_step(int(self._done)).items():
                sums[name] = sums.get(name, 0) + value
            self._done += 1
        return {name: value / self.steps for name, value in sums.items()}

    def _train_step(self, step: int) -> dict[str, Float[Tensor, " seed"]]:
        """Take one training step and return its values by name.

        Args:
            step: Number of the step, counted from 0 over all epochs.
        """
        raise NotImplementedError


def require_settings(config: Any, *names: str) -> None:
    """Check that settings have the attributes that training the method requires.

    Raises:
        TypeError: An attribute is missing.
    """
    if lacking := [name for name in names if not hasattr(config, name)]:
        raise TypeError(
            f"settings of {config.name} must have {' and '.join(lacking)}, which training requires"
        )
