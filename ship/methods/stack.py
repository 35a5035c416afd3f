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
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence
from torch.utils._pytree import tree_map

from ship.methods.base import Method
from ship.methods.batching import inside_vmap
from ship.seeds import SeedOptimizer, to_device
from ship.state import Part, State, Stateful, capture, require_tensor, strip_prefix

ALL_SEEDS: Final = slice(None)
_PLAIN_TYPES: Final = (bool, int, float, str, type(None))
# Attributes of every nn.Module, which contain e.g. its parameters, buffers and submodules.
_TORCH_ATTRIBUTES: Final = frozenset(vars(nn.Module()))


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
        rows_name = self.prototype.rows
        if rows_name is not None:
            other_parts = {
                name: part
                for name, part in self.learned.items()
                if not name.startswith(f"{rows_name}.")
            }
            rows = _Rows(strip_prefix(self.state, rows_name))
            self.learned = {**other_parts, rows_name: rows}
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
        seeds: slice = ALL_SEEDS,
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
            return self.call_one_by_one(name, *batched_by_seed, *shared_by_seed, seeds=seeds)
        state = self.state
        if seeds != ALL_SEEDS:  # slicing all seeds would add an operation to the autograd graph
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

    def call_one_by_one(
        self, name: str, *inputs: Sequence[Any] | Tensor, seeds: slice = ALL_SEEDS
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


class _Rows(Stateful):
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
