"""Behavior of torch's operators on CUDA: number of kernels, and whether the host waits.

An operator is one launch. Views, and queries of shapes, launch nothing. Composite operators
(linear, layer_norm, normalize) are counted as the operators that they consist of. operators.yaml
has the exceptions. Sorting, linear algebra, nonzero, a safe softmax and operators on long lists
launch several kernels, but are counted as one, so counts are a lower bound.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, NamedTuple

import torch
from torch._ops import OpOverload

from tests.case_files import load_cases

TABLES: Final[Mapping[str, Any]] = load_cases(__file__, "operators.yaml")


class Operator(NamedTuple):
    """Properties of an overload.

    Attributes:
        name: Name without namespace and overload.
        launches: Number of kernels per call.
        waits: Whether the host waits.
        composite: Whether it consists of other operators on every device.
    """

    name: str
    launches: int
    waits: bool
    composite: bool


@cache
def get_operator(overload: OpOverload) -> Operator:
    """Return the properties of an overload, from its schema and the tables."""
    name, schema = overload.overloadpacket.__name__, overload._schema
    waits = name in TABLES["waits"] or overload.name() == "aten::repeat_interleave.Tensor"
    aliases = [value.alias_info for value in schema.returns if "Tensor" in str(value.type)]
    is_view = bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
    is_query = not aliases and not schema.is_mutable and not waits
    is_free = is_view or is_query or name.startswith(("empty", "new_empty"))
    is_free |= torch.Tag.inplace_view in overload.tags
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(
        overload.name(), "CompositeImplicitAutograd"
    )
    launches = TABLES["launches"].get(name, 0 if is_free else 1)
    return Operator(name, launches, waits, composite)
