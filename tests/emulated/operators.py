"""What an operator of torch does on CUDA: how many kernels it launches, and whether the host waits.

An operator is one launch, a view or a question about a tensor's shape none. Operators of torch that
are made of others (linear, layer_norm, normalize) are counted as what they are made of. The tables
below are the exceptions that matter here, read in torch's source (aten/src/ATen/native). Sorting,
linear algebra, nonzero, a safe softmax and operators on long lists of tensors launch several and
are counted as one: counts are a lower bound.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final, NamedTuple

import torch
from torch._ops import OpOverload

LAUNCHES: Final[Mapping[str, int]] = {
    "_unsafe_view": 0,
    "lift_fresh": 0,
    # memory-efficient attention in fp32: a product, a sum, a copy, the kernel
    # (transformers/cuda/attention_backward.cu)
    "_scaled_dot_product_flash_attention_for_cpu_backward": 4,
}

# A value on the device decides, or says how large the result is.
WAITS: Final = frozenset([
    "nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive",
    "unique_dim_consecutive", "bincount", "histc", "_local_scalar_dense", "item", "is_nonzero",
    "equal", "allclose", "multinomial", "_linalg_check_errors", "_linalg_eigh", "_linalg_svd",
    "linalg_eig",
])  # fmt: skip

# These refuse even a CPU tensor without dimensions beside tensors on the device.
STRICT: Final = frozenset([
    "cat", "stack", "gather", "scatter", "scatter_", "scatter_add", "scatter_add_", "index_select",
    "index_add", "index_add_", "index_copy", "index_copy_", "equal", "embedding", "dot",
])  # fmt: skip

INDEXING: Final = frozenset([
    "index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put",
])  # fmt: skip


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
    """What is known of an overload, from its schema and the tables."""
    name, schema = overload.overloadpacket.__name__, overload._schema
    waits = name in WAITS or overload.name() == "aten::repeat_interleave.Tensor"
    gives = [value.alias_info for value in schema.returns if "Tensor" in str(value.type)]
    views = bool(gives) and all(alias is not None and not alias.is_write for alias in gives)
    asks = not gives and not schema.is_mutable and not waits
    free = views or asks or name.startswith(("empty", "new_empty"))
    free |= torch.Tag.inplace_view in overload.tags
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(
        overload.name(), "CompositeImplicitAutograd"
    )
    return Operator(name, LAUNCHES.get(name, 0 if free else 1), waits, composite)
