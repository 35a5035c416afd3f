"""Run methods, which are written for one seed, for all seeds in one call.

`Stack` stacks the parameters and buffers of all seeds' methods: tensors of shape (n, ...) become
one tensor (seed, n, ...). To call a function of the method, it combines two tools of torch:

- `torch.func.functional_call(module, tensors, arguments)` calls a module with the given tensors in
  place of its own parameters and buffers.
- `torch.vmap(function)` returns a function of stacked tensors. It runs the code of `function` only
  once. This code sees tensors without the seed axis, but torch carries out each of its operations
  for all seeds.

The gradients of all seeds need only one backward pass: that of the sum of their losses. Since each
seed's loss depends only on its own parameters, these get the same gradients as from a pass of their
own. This pass runs outside of vmap.

Code under vmap cannot share work between seeds, e.g. group the prompts of all seeds by length. For
this purpose, a function can be *batched over seeds* (see `batched_over_seeds`): its own tensors
have the seed axis first, but it is called from code for one seed.

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

_ALL_SEEDS: Final = slice(None)
_PLAIN_TYPES: Final = (bool, int, float, str, type(None))
# Attributes of every nn.Module, which contain e.g. its parameters, buffers and submodules.
_TORCH_ATTRIBUTES: Final = frozenset(vars(nn.Module()))

_INSIDE_VMAP: ContextVar[bool] = ContextVar("inside_vmap", default=False)


@contextmanager
def inside_vmap() -> Iterator[None]:
    """Tell functions called in this context that they run under vmap over the seeds."""
    token = _INSIDE_VMAP.set(True)
    try:
        yield
    finally:
        _INSIDE_VMAP.reset(token)


def batched_over_seeds(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap a function that is written for all seeds, so that code for one seed can call it.

    Callers of the wrapper omit the seed axis, which is the first axis of all tensors. Under vmap,
    the function is called once, with the tensors of all seeds. Otherwise it is called with a seed
    axis of length 1.

    Args:
        function: Function of tensors with a leading seed axis, which returns such a tensor. Its
            other arguments must be the same for all seeds.

    Example:
        >>> @batched_over_seeds
        ... def double(x):
        ...     print("called with", tuple(x.shape))
        ...     return 2 * x
        >>> double(torch.ones(3)).shape
        called with (1, 3)
        torch.Size([3])
        >>> with inside_vmap():
        ...     torch.vmap(double)(torch.ones(5, 3)).shape
        called with (5, 3)
        torch.Size([5, 3])
    """

    def call(*inputs: Any) -> Tensor:
        if _INSIDE_VMAP.get():
            result: Tensor = _BatchedOverSeeds.apply(function, *inputs)  # type: ignore[no-untyped-call]
            return result
        return function(*(x.unsqueeze(0) if isinstance(x, Tensor) else x for x in inputs))[0]

    return call


class _BatchedOverSeeds(torch.autograd.Function):
    """A torch.autograd.Function that is only used for its vmap rule, the method `vmap`.

    If such a Function is applied under vmap, torch calls the rule with the stacked tensors instead
    of `forward`. Autograd records the operations in the rule, so `backward` is not needed either.
    """

    @staticmethod
    def forward(*_: Any) -> Tensor:
        """Raise an error, because the rule replaces this method under vmap."""
        raise RuntimeError(
            "a function batched over seeds supports no transform other than torch.vmap"
        )

    @staticmethod
    def setup_context(*_: Any) -> None:
        """Do nothing: there is no `backward` to save tensors for. torch requires this method."""

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, function: Callable[..., Tensor], *inputs: Any
    ) -> tuple[Tensor, int]:
        """Call the function with the stacked tensors of all seeds.

        Args:
            info: torch's information about the vmap, including the number of seeds.
            in_dims: Seed axis of each argument of `forward`, which are the function and its inputs.
                None for an argument that is no tensor, or the same tensor for all seeds.
            function: The function.
            inputs: Inputs of the function.

        Returns:
            The function's result, and the position of its seed axis.
        """
        _, *axes = in_dims
        values = [
            _move_seeds_first(x, axis, info.batch_size)
            for x, axis in zip(inputs, axes, strict=True)
        ]
        return function(*values), 0


plus_product = batched_over_seeds(torch.baddbmm)
"""Return bias + x @ weight for the arguments (bias, x, weight) of one seed."""


def _move_seeds_first(value: Any, axis: int | None, n_seeds: int) -> Any:
    """Return a tensor with its seed axis first, or any other value unchanged.

    Args:
        value: Tensor, or any other value.
        axis: Position of the seed axis. None for a tensor without it, which gets a new one.
        n_seeds: Length of a new seed axis.
    """
    if not isinstance(value, Tensor):
        return value
    return value.expand(n_seeds, *value.shape) if axis is None else value.movedim(axis, 0)


class Stack:
    """Methods of one class, one for each seed.

    A method's plain attributes are those that are no parameters, buffers or submodules.

    Attributes:
        prototype: Method of the first seed. Functions of all seeds run with its plain attributes,
            but with the tensors of `state`. Its own tensors have no values.
        state: All parameters and buffers by name, (seed, ...) each. If tensors of `Method.rows`
            differ in their number of rows, shorter ones are padded.
        trained: The parameters of `state` that are trained, by name.
        learned: The parameters and persistent buffers of `state` by name, for saved models. The
            tensors of `Method.rows` are one entry.
    """

    def __init__(self, methods: Sequence[Method], device: torch.device) -> None:
        """Stack the tensors of the methods.

        Args:
            methods: Method of each seed. The first one becomes the prototype and loses its tensors.
            device: Device of the stacked tensors.

        Raises:
            ValueError: The methods differ in a plain attribute, or a parameter has two names.
        """
        self.prototype = methods[0]
        self._n_seeds = len(methods)
        _require_single_names(self.prototype)
        for method in methods[1:]:
            _require_same_attributes(self.prototype, method)
        # A tensor with two names, such as a shared mask of the seen classes, is stacked under both,
        # because functional_call replaces tensors by name.
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
        saved_names = self.prototype.state_dict().keys()  # without buffers that are not persistent
        self.learned: dict[str, Part] = {
            name: tensor for name, tensor in self.state.items() if name in saved_names
        }
        rows = self.prototype.rows
        if rows is not None:
            other_parts = {
                name: part for name, part in self.learned.items() if not name.startswith(f"{rows}.")
            }
            self.learned = {**other_parts, rows: _Rows(strip_prefix(self.state, rows))}
        self.trained = {
            name: self.state[name].requires_grad_()
            for name, value in self.prototype.named_parameters()
            if value.requires_grad
        }
        _drop_values(self.prototype)

    def optimizer(self, module: str = "") -> SeedOptimizer:
        """Build the optimizer that the method asks for, over the stacked parameters.

        Args:
            module: Name of the submodule whose parameters it trains. "" trains all parameters.
        """
        kind, settings = self.prototype.optimizer()
        parameters = strip_prefix(self.trained, module) if module else self.trained
        return SeedOptimizer(kind, [*parameters.values()], **settings)

    def __call__(
        self,
        name: str,
        *batched: Tensor | None,
        shared: Sequence[Any] = (),
        seeds: slice = _ALL_SEEDS,
    ) -> Any:
        """Call a function of the method for all seeds at once.

        If the method is not `vmapped`, the seeds run one after the other, with the same result.

        Args:
            name: Name of the method's function.
            batched: Inputs with a leading seed axis. None is passed on unchanged.
            shared: Inputs that are the same for all seeds. They follow those of `batched`.
            seeds: Positions of the seeds to call the function for. `batched` must have only these
                seeds.

        Returns:
            The function's result with a leading seed axis.

        Raises:
            RuntimeError: The function cannot run under vmap, and the method is `vmapped`.
        """
        has_stacked_tensors = bool(self.state or batched)  # vmap needs at least one
        if not self.prototype.vmapped or not has_stacked_tensors:
            n_seeds = len(range(self._n_seeds)[seeds])
            batched_by_seed: list[Any] = [[None] * n_seeds if x is None else x for x in batched]
            shared_by_seed = [[x] * n_seeds for x in shared]
            return self.call_in_turn(name, *batched_by_seed, *shared_by_seed, seeds=seeds)
        state = self.state
        if seeds != _ALL_SEEDS:  # slicing all seeds would add an operation to the autograd graph
            state = {key: value[seeds] for key, value in state.items()}

        def call_for_one_seed(state: dict[str, Tensor], *inputs: Any) -> Any:
            return functional_call(self.prototype, state, (name, *inputs))

        # Position of the seed axis in each argument: 0, or None if there is no such axis.
        axes = [0, *(None if x is None else 0 for x in batched), *(None for _ in shared)]
        call_for_all_seeds = torch.vmap(call_for_one_seed, in_dims=tuple(axes))
        try:
            with inside_vmap():
                return call_for_all_seeds(state, *batched, *shared)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            raise RuntimeError(
                f"{type(self.prototype).__name__}.{name} cannot run for all seeds at once: it "
                "reads a value, has a size that depends on a value, or draws random numbers. Set "
                f"vmapped = False to run the seeds in turn ({str(error).splitlines()[0][:150]})"
            ) from error

    def call_in_turn(
        self, name: str, *inputs: Sequence[Any] | Tensor, seeds: slice = _ALL_SEEDS
    ) -> Any:
        """Call a function of the method for one seed after the other.

        Args:
            name: Name of the method's function.
            inputs: Inputs, each with one entry per seed. Entries may differ in size.
            seeds: Positions of the seeds to call the function for. Inputs must have entries for
                only these seeds.

        Returns:
            The function's results, stacked along a leading seed axis. This requires that they have
            the same size for all seeds.
        """
        results = [
            functional_call(
                self.prototype,
                {key: value[seed_index] for key, value in self.state.items()},
                (name, *(values[i] for values in inputs)),
            )
            for i, seed_index in enumerate(range(self._n_seeds)[seeds])
        ]
        return tree_map(lambda *values: torch.stack(values), *results)


class _Rows:
    """Tensors (seed, n, ...) with the same number n of rows.

    A state to load may have another n, because a saved model is loaded into methods that are built
    without the training images.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def state_dict(self) -> State:
        """Return copies of the tensors on the CPU."""
        return capture(self._tensors)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a state of `state_dict()` with any number of rows.

        Raises:
            CheckpointError: A tensor is missing, has a wrong shape or type, or has another number
                of rows than the first one of the state.
        """
        row_counts = [value.shape[1] for value in state.values() if value.ndim > 1]
        for name, tensor in self._tensors.items():
            shape = (len(tensor), *row_counts[:1], *tensor.shape[2:])
            expected = torch.empty(shape, dtype=tensor.dtype, device="meta")
            # Stack.state contains the same tensor object. copy_() could not change its shape.
            tensor.data = require_tensor(state, name, expected).to(tensor.device, copy=True)


def _stack_seeds(values: list[Tensor], device: torch.device) -> Tensor:
    """Stack the tensors of all seeds, padded to the seed with the most rows.

    Padding is False for booleans, -1 for integers, and 0 for all other types.
    """
    if len({value.shape for value in values}) == 1:
        tensor = torch.stack(values)
    else:
        are_integers = not values[0].is_floating_point() and values[0].dtype != torch.bool
        padding = -1 if are_integers else 0
        tensor = pad_sequence(values, batch_first=True, padding_value=padding)
    return to_device(tensor, device) if tensor.device.type == "cpu" else tensor


def _require_same_attributes(first: nn.Module, second: nn.Module) -> None:
    """Raise ValueError if two seeds' methods differ in their modules or plain attributes.

    All seeds run with the modules and plain attributes of the first seed, so those of the other
    seeds would be ignored.
    """
    modules, counterparts = dict(first.named_modules()), dict(second.named_modules())
    if list(modules) != list(counterparts):
        raise ValueError(f"modules differ between seeds: {sorted({*modules} ^ {*counterparts})}")
    for name, module in modules.items():
        attributes, other_attributes = vars(module), vars(counterparts[name])
        for key in sorted({*attributes, *other_attributes} - _TORCH_ATTRIBUTES):
            if _are_different(attributes.get(key), other_attributes.get(key)):
                attribute = f"{name}.{key}" if name else key  # the method itself has the name ""
                raise ValueError(
                    f"{attribute} differs between seeds. Store it with register_buffer"
                )


def _are_different(first: Any, second: Any) -> bool:
    """Return True if tensors, arrays, numbers or strings differ, also inside containers.

    None differs from everything else. Objects of other types count as equal.
    """
    if (first is None) != (second is None):
        return True
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first is not second and not torch.equal(first, second)
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return not np.array_equal(first, second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return list(first) != list(second) or any(
            _are_different(value, second[key]) for key, value in first.items()
        )
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) != len(second) or any(map(_are_different, first, second))
    return isinstance(first, _PLAIN_TYPES) and bool(first != second)


def _require_single_names(method: nn.Module) -> None:
    """Raise ValueError if a parameter has two names, because only one of them would be trained."""
    first_names = {id(value): name for name, value in method.named_parameters()}
    for name, value in method.named_parameters(remove_duplicate=False):
        first_name = first_names[id(value)]
        if first_name != name:
            raise ValueError(
                f"{first_name} and {name} are the same parameter. Register it under one name"
            )


def _drop_values(module: nn.Module) -> None:
    """Replace a module's tensors by tensors without values (on torch's "meta" device).

    Code that uses them in place of the stacked tensors then fails, instead of computing with the
    initial values of the first seed.
    """
    for inner in module.modules():
        for tensors in (inner._parameters, inner._buffers):
            for name, value in tensors.items():
                if value is not None:
                    empty = torch.empty_like(value, device="meta")
                    tensors[name] = empty  # type: ignore[assignment]


class BatchedTraining:
    """One method per seed, with all seeds trained together.

    A subclass defines `train_epoch`, which calls `_train_pass` to train in steps.

    Attributes:
        stack: The methods of all seeds.
        prototype: Method of the first seed. Use it only for what is the same for all seeds.
        epochs: Number of epochs to call `train_epoch` for. 0 if nothing is trained in epochs.
        steps: Number of steps per epoch. 0 if nothing is trained in steps.
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
        """Build the methods.

        Args:
            kind: Class of the methods.
            config: Settings of the methods.
            tasks: Task of each seed.
            clip: Frozen backbone.
            seeds: Seeds of the trial.
        """
        methods = []
        for task, seed in zip(tasks, seeds, strict=True):
            draw = partial(Rng, seed, task.features)  # see ship.methods.base.Draw
            methods.append(kind(config, task, clip, draw))
        self.prototype = methods[0]
        self.stack = Stack(methods, tasks[0].features.device)
        self.epochs = 0
        self._done = torch.zeros((), dtype=torch.long)  # finished steps

    def _prepare_steps(self, config: Any, rows: Task, seeds: Sequence[int]) -> None:
        """Create what `_train_step` needs: batches, random views and the optimizer.

        An epoch is a pass over the rows, each in one of its views, chosen at random. If the batch
        size does not divide the number of rows, the last batch also has rows of the next pass,
        unless `config.drop_last` is set: then it is omitted.

        Args:
            config: Settings of the methods.
            rows: Task with the rows to train on.
            seeds: Seeds of the trial.
        """
        name, device = self.prototype.stream, rows.features.device
        self._rows = rows
        self._batch_size = min(config.batch_size, rows.rows_per_epoch)
        drop_last = getattr(config, "drop_last", False)
        # rows_per_epoch is the same for all seeds, unlike their numbers of images.
        n_full_batches, n_remaining = divmod(rows.rows_per_epoch, self._batch_size)
        self.steps = n_full_batches
        if n_remaining and not drop_last:
            self.steps += 1
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

    Args:
        config: Settings of the method.
        names: Required attributes.

    Raises:
        TypeError: An attribute is missing.
    """
    missing = [name for name in names if not hasattr(config, name)]
    if missing:
        raise TypeError(
            f"settings of {config.name} must have {' and '.join(missing)}, which training requires"
        )
