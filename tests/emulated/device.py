"""The emulated device, and its registration with torch.

Importing this module registers the device. This must happen before the first backward pass, when
torch counts its devices. pytest imports all test files before it runs tests, which is early enough.
A process can have only one such device.
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
"""torch's dispatch key for third-party devices."""


def explain_absence() -> str | None:
    """Return why this torch does not support the device, or None if it does."""
    hook = "_setup_privateuseone_for_python_backend"
    if hasattr(backend_registration, hook):
        return None
    return f"torch {torch.__version__} has no devices in Python (torch.utils.{hook}, since 2.9)"


class EmulatedDevice:
    """The interface of the device for tests.

    Attributes:
        name: Name for `device=` arguments.
    """

    name = NAME

    @contextmanager
    def counting(self) -> Iterator[Counts]:
        """Count launches and waits inside the context."""
        execution = DeviceTensor.execution
        outer, execution.counts = execution.counts, Counts()
        try:
            yield execution.counts
        finally:
            execution.counts = outer


@contextmanager
def emulated_device() -> Iterator[EmulatedDevice]:
    """Enable the device "gpu", or skip the test if this torch does not support it.

    Two settings of torch are changed, and restored at the end. Modules get new parameters when they
    are moved, because parameters on the device have another class. torch.tensor creates its tensor
    on the host and then moves it; this setting applies to the present thread only, and in other
    threads torch.tensor cannot create tensors on the device. The registration of the device lasts
    until the process ends.
    """
    reason = explain_absence()
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


def _list_factories() -> Iterator[tuple[str, OpOverload]]:
    """Yield name and overload of each operator that creates tensors without tensor arguments."""
    for name in torch._C._dispatch_get_all_op_names():
        if not name.startswith("aten::"):
            continue
        base, _, overload = name.removeprefix("aten::").partition(".")
        factory = getattr(getattr(torch.ops.aten, base), overload or "default")
        types = {argument.name: str(argument.type) for argument in factory._schema.arguments}
        if "device" in types and not any("Tensor" in kind for kind in types.values()):
            yield name.removeprefix("aten::"), factory


def _make_kernel(execution: Execution, overload: OpOverload) -> Callable[..., Any]:
    """Return a function that runs an overload on the device."""
    return lambda *args, **kwargs: execution.run(overload, args, kwargs)


def _pin(tensor: Tensor, device: object = None) -> Tensor:
    """Return a copy with an attribute `pinned`, because torch cannot pin memory without a GPU."""
    copy: Tensor = torch.ops.aten.clone.default(tensor)
    copy.pinned = True  # type: ignore[attr-defined]
    return copy


def _register() -> list[torch.library.Library]:
    """Register the device with torch, and return the registration."""
    execution = DeviceTensor.execution = Execution()
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    module = torch.get_device_module(NAME)  # the device has no random generator
    module.get_rng_state = lambda device=None: torch.empty(0, dtype=torch.uint8)
    module.set_rng_state = lambda state, device=None: None
    # Optimizers use multi-tensor kernels by default for these classes. torch's DTensor is added to
    # the lists in the same way.
    for classes in (optimized, multi_tensor):
        classes.append(DeviceTensor)  # type: ignore[arg-type]
    fallback = torch.library.Library("_", "IMPL")
    fallback.fallback(lambda func, *args, **kwargs: execution.run(func, args, kwargs), KEY)
    overrides = torch.library.Library("aten", "IMPL")
    for name, overload in _list_factories():
        overrides.impl(name, _make_kernel(execution, overload), KEY)
    # with an autograd key, so that the backward pass can be one kernel, too
    overrides.impl("scaled_dot_product_attention", execution.attention, f"Autograd{KEY}")
    overrides.impl("_pin_memory", _pin, "CPU")
    return [fallback, overrides]


REGISTERED: Final = _register() if explain_absence() is None else []
