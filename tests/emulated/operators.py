"""Behavior of torch's operators on CUDA: number of kernels, and whether the host waits.

An operator is one launch; views and questions about shapes are none. Composite operators (linear,
layer_norm, normalize) are counted as their parts. operators.yaml has the exceptions. Sorting,
linear algebra, nonzero, a safe softmax and operators on long lists launch several kernels and are
counted as one: counts are a lower bound.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, NamedTuple

import torch
from torch._ops import OpOverload

from tests.case_files import load_cases

TABLES: Final[Mapping[str, Any]] = load_cases(__file__, "operators.yaml")


class Operator(NamedTuple):
    """What is known of one overload.

    name: without namespace and overload.
    launches: kernels of a call.
    waits: whether the host waits.
    composite: it is made of others, on every device.
    """

    name: str
    launches: int
    waits: bool
    composite: bool


@cache
def operator_of(overload: OpOverload) -> Operator:
    """Return the properties of an overload, from its schema and the tables."""
    name, schema = overload.overloadpacket.__name__, overload._schema
    waits = name in TABLES["waits"] or overload.name() == "aten::repeat_interleave.Tensor"
    gives = [value.alias_info for value in schema.returns if "Tensor" in str(value.type)]
    views = bool(gives) and all(alias is not None and not alias.is_write for alias in gives)
    asks = not gives and not schema.is_mutable and not waits
    free = views or asks or name.startswith(("empty", "new_empty"))
    free |= torch.Tag.inplace_view in overload.tags
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(
        overload.name(), "CompositeImplicitAutograd"
    )
    return Operator(name, TABLES["launches"].get(name, 0 if free else 1), waits, composite)
