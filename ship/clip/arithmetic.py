"""torch's setting for float32 products, which is one for the whole process."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ship.architectures import Precision


@contextmanager
def products(device: torch.device, precision: Precision) -> Iterator[None]:
    """Products in TensorFloat-32 where a trial on CUDA has precision tf32, else in float32.

    Args:
        device: that the products are computed on; on others than CUDA nothing is changed.
        precision: of the trial.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
