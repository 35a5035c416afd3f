"""Between host and device, without waiting where that can be avoided.

A copy from pageable memory, and each value that is read on the host, makes the host wait until the
device has done all that it was given before. In a training step there must be none.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


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
