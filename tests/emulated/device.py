"""The emulated device for as long as a test wants it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import torch

from tests.emulated.counts import Counts
from tests.emulated.execution import NAME, DeviceTensor, Execution
from tests.emulated.torch_backend import why_missing


class EmulatedDevice:
    """The device, as tests see it.

    Attributes:
        name: for `device=` arguments.
    """

    name = NAME

    def __init__(self, execution: Execution) -> None:
        self.execution = execution

    @property
    def counts(self) -> Counts:
        """What has happened since the device was made, or within counting()."""
        return self.execution.counts

    @contextmanager
    def counting(self) -> Iterator[Counts]:
        """Counts of what happens inside; what stands around it does not see that."""
        outer, self.execution.counts = self.execution.counts, Counts()
        try:
            yield self.execution.counts
        finally:
            self.execution.counts = outer


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
    _check_backward()
    before, execution = DeviceTensor.execution, Execution()
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    lift = torch._C._only_lift_cpu_tensors()
    with ExitStack() as stack:
        stack.callback(setattr, DeviceTensor, "execution", before)
        DeviceTensor.execution = execution
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lift)
        torch._C._set_only_lift_cpu_tensors(True)
        yield EmulatedDevice(execution)


def _check_backward() -> None:
    """A gradient on the device.

    Raises:
        RuntimeError: torch ran a backward pass before it knew of the device.
    """
    x = torch.zeros((), device=NAME).requires_grad_()
    try:
        x.clone().backward()
    except RuntimeError as error:
        raise RuntimeError(
            "import tests.emulated before the first backward pass of the process"
        ) from error
