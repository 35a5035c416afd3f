"""The emulated device's registration with torch, made when this module is imported.

A process can have one, and torch counts its devices at the first backward pass: pytest imports all
test files before it runs any test, which is early enough.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.optim.optimizer import _foreach_supported_types as optimized
from torch.utils import backend_registration
from torch.utils._foreach_utils import _foreach_supported_types as multi_tensor

from tests.emulated.execution import NAME, DeviceTensor, Execution


def why_missing() -> str | None:
    """Why this torch cannot have the device, or None where it can."""
    hook = "_setup_privateuseone_for_python_backend"
    if hasattr(backend_registration, hook):
        return None
    return f"torch {torch.__version__} has no device in Python (torch.utils.{hook}; it came in 2.9)"


KEY: Final = "PrivateUse1"
"""torch's name for a device of somebody else's."""


class DeviceModule:
    """torch.gpu, as torch.cuda is for CUDA: what torch itself asks of a device's module.

    The device draws nothing at random of its own, so that its generators' state is empty.
    """

    def is_initialized(self) -> bool:
        """Always."""
        return True

    def is_available(self) -> bool:
        """Always."""
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        """There is one."""
        return 1

    def current_device(self) -> int:
        """The only one."""
        return 0

    def synchronize(self, device: object = None) -> None:
        """The host waits for all that the device was given."""
        DeviceTensor.execution.counts.sync("synchronize")

    def manual_seed_all(self, seed: int) -> None:
        """No generator to seed."""

    def get_rng_state(self, device: object = None) -> Tensor:
        """(0,) bytes."""
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: object = None) -> None:
        """No generator to put back."""


class Backend:
    """What torch calls for the device."""

    def __init__(self) -> None:
        DeviceTensor.execution = Execution()
        backend_registration._setup_privateuseone_for_python_backend(NAME, DeviceModule())
        # as torch.distributed's DTensor does: multi-tensor kernels are the default, as on CUDA
        for kinds in (optimized, multi_tensor):
            kinds.append(DeviceTensor)  # type: ignore[arg-type]
        self._everything = torch.library.Library("_", "IMPL")
        self._everything.fallback(self._run, KEY)
        self._some = torch.library.Library("aten", "IMPL")
        for name, overload in _factories():
            self._some.impl(name, self._of(overload), KEY)
        # above autograd, so that its backward pass can be one kernel too
        self._some.impl("scaled_dot_product_attention", self._attention, f"Autograd{KEY}")

        self._some.impl("is_pinned", self._is_pinned, "CPU")
        self._some.impl("_pin_memory", self._pin_memory, "CPU")

    def _is_pinned(self, tensor: Tensor, device: object = None) -> bool:
        return tensor in DeviceTensor.execution.pinned

    def _pin_memory(self, tensor: Tensor, device: object = None) -> Tensor:
        return DeviceTensor.execution.pinned.pin(torch.ops.aten.clone.default(tensor))

    def _run(self, overload: OpOverload, *args: Any, **kwargs: Any) -> Any:
        return DeviceTensor.execution.run(overload, args, kwargs)

    def _attention(self, *args: Any, **kwargs: Any) -> Tensor:
        return DeviceTensor.execution.attention(*args, **kwargs)

    def _of(self, overload: OpOverload) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            return self._run(overload, *args, **kwargs)

        return run


def _factories() -> Iterator[tuple[str, OpOverload]]:
    """Operators that make a tensor out of numbers: they have a device, and no tensor goes in."""
    for name in torch._C._dispatch_get_all_op_names():
        if not name.startswith("aten::"):
            continue
        base, _, overload = name.removeprefix("aten::").partition(".")
        found = getattr(getattr(torch.ops.aten, base), overload or "default")
        types = {argument.name: str(argument.type) for argument in found._schema.arguments}
        if "device" in types and not any("Tensor" in kind for kind in types.values()):
            yield name.removeprefix("aten::"), found


BACKEND: Final = Backend() if why_missing() is None else None
