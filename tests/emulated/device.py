"""The emulated device, and its registration with torch.

It is registered when this module is imported. A process can have only one, and torch counts its
devices at the first backward pass. pytest imports all test files before it runs tests, which is
early enough.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.optim.optimizer import _foreach_supported_types as optimized
from torch.utils import backend_registration
from torch.utils._foreach_utils import _foreach_supported_types as multi_tensor

from tests.emulated.counts import Counts
from tests.emulated.execution import NAME, DeviceTensor, Execution

KEY: Final = "PrivateUse1"
"""torch's name for a device of somebody else's."""


def why_missing() -> str | None:
    """Return why this torch does not support the device, or None if it does."""
    hook = "_setup_privateuseone_for_python_backend"
    if hasattr(backend_registration, hook):
        return None
    return f"torch {torch.__version__} has no device in Python (torch.utils.{hook}; it came in 2.9)"


class EmulatedDevice:
    """The device, as tests see it.

    Attributes:
        name: for `device=` arguments.
    """

    name = NAME

    @contextmanager
    def counting(self) -> Iterator[Counts]:
        """Return the counts of what happens inside the context."""
        execution = DeviceTensor.execution
        outer, execution.counts = execution.counts, Counts()
        try:
            yield execution.counts
        finally:
            execution.counts = outer


@contextmanager
def emulated_device() -> Iterator[EmulatedDevice]:
    """The device "gpu"; the test is skipped where this torch has no hook for one.

    The registration with torch stays until the process ends. What else is changed is put back:
    modules get new parameters when they are moved, as the old ones are of another kind; and
    torch.tensor makes its tensor on the host before it is moved (in this thread; in others it
    cannot make one on the device).
    """
    reason = why_missing()
    if reason is not None:
        pytest.skip(reason)
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    lift = torch._C._only_lift_cpu_tensors()
    with ExitStack() as stack:
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lift)
        torch._C._set_only_lift_cpu_tensors(True)
        yield EmulatedDevice()


def _factories() -> Iterator[tuple[str, OpOverload]]:
    """Return the operators that create tensors from numbers."""
    for name in torch._C._dispatch_get_all_op_names():
        if not name.startswith("aten::"):
            continue
        base, _, overload = name.removeprefix("aten::").partition(".")
        factory = getattr(getattr(torch.ops.aten, base), overload or "default")
        types = {argument.name: str(argument.type) for argument in factory._schema.arguments}
        if "device" in types and not any("Tensor" in kind for kind in types.values()):
            yield name.removeprefix("aten::"), factory


def _running(execution: Execution, overload: OpOverload) -> Callable[..., Any]:
    return lambda *args, **kwargs: execution.run(overload, args, kwargs)


def _pinned(tensor: Tensor, device: object = None) -> Tensor:
    """Return a copy that claims to be pinned: the CPU build of torch pins nothing."""
    copy: Tensor = torch.ops.aten.clone.default(tensor)
    copy.pinned = True  # type: ignore[attr-defined]
    return copy


def _register() -> list[torch.library.Library]:
    """Register the device with torch, and return the registration."""
    execution = DeviceTensor.execution = Execution()
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    module = torch.get_device_module(NAME)  # it has no random generator
    module.get_rng_state = lambda device=None: torch.empty(0, dtype=torch.uint8)
    module.set_rng_state = lambda state, device=None: None
    # as torch.distributed's DTensor does: multi-tensor kernels are the default, as on CUDA
    for kinds in (optimized, multi_tensor):
        kinds.append(DeviceTensor)  # type: ignore[arg-type]
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(lambda func, *args, **kwargs: execution.run(func, args, kwargs), KEY)
    some = torch.library.Library("aten", "IMPL")
    for name, overload in _factories():
        some.impl(name, _running(execution, overload), KEY)
    # above autograd, so that its backward pass can be one kernel too
    some.impl("scaled_dot_product_attention", execution.attention, f"Autograd{KEY}")
    some.impl("_pin_memory", _pinned, "CPU")
    return [everything, some]


REGISTERED: Final = _register() if why_missing() is None else []
