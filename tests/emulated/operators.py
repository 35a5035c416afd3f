"""What an operator of torch does on CUDA: how many kernels it launches, and whether the host waits.

An operator is one launch, a view or a question about a tensor's shape none. Operators of torch that
are made of others (linear, layer_norm, normalize) are counted as what they are made of. The tables
below are the exceptions that are known, read in torch's source (aten/src/ATen/native). Sorting,
unique, linear algebra, nonzero and operators on long lists of tensors launch several kernels and
are counted as one: counts are a lower bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import torch
from torch._ops import OpOverload

LAUNCHES: Final[Mapping[str, int]] = {
    # softmax, two filled scalars, a comparison, all(), where (transformers/attention.cpp,
    # SoftMax.cpp: _safe_softmax)
    "_safe_softmax": 6,
    # QKV's product, its bias, two batched products, the masked softmax, the output's product
    # (transformers/attention.cpp: native_multi_head_attention)
    "_native_multi_head_attention": 6,
}

WAITS: Final[Mapping[str, str]] = {
    # the size of the result is a value on the device
    **dict.fromkeys(
        (
            "nonzero",
            "masked_select",
            "_unique",
            "_unique2",
            "unique_dim",
            "unique_consecutive",
            "unique_dim_consecutive",
            "bincount",
            "histc",
        ),
        "size of the result",
    ),
    # a value on the device decides
    **dict.fromkeys(("_local_scalar_dense", "item", "is_nonzero"), "item"),
    **dict.fromkeys(("equal", "allclose"), "comparison"),
    "multinomial": "check of the probabilities",
    "_linalg_check_errors": "check of the result",
    **dict.fromkeys(("_linalg_eigh", "_linalg_svd", "linalg_eig"), "check of the result"),
}

# operators that refuse even a CPU tensor without dimensions beside tensors on the device
STRICT: Final = frozenset(
    [
        "cat",
        "stack",
        "gather",
        "scatter",
        "scatter_",
        "scatter_add",
        "scatter_add_",
        "index_select",
        "index_add",
        "index_add_",
        "index_copy",
        "index_copy_",
        "equal",
        "embedding",
        "dot",
    ]
)

INDEXING: Final = frozenset(
    ("index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put")
)


@dataclass(frozen=True)
class Operator:
    """What is known of one overload.

    name: without namespace and overload.
    launches: kernels of a call.
    waits: why the host waits; "": it does not.
    written: for each value that is returned, the place or the name of the argument that is changed
        in place and handed back; None: a new value.
    changes: places and names of all arguments that are changed in place.
    reshapes: it changes the sizes of a tensor in place, and no more.
    composite: it is made of others, on every device.
    """

    name: str
    launches: int
    waits: str
    written: tuple[int | str | None, ...]
    changes: tuple[int | str, ...]
    reshapes: bool
    composite: bool


@cache
def operator_of(overload: OpOverload) -> Operator:
    """What is known of an overload, from its schema and the tables."""
    name = overload.overloadpacket.__name__
    schema = overload._schema
    writes: dict[str, int | str] = {}
    changes: list[int | str] = []
    for place, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            key: int | str = argument.name if argument.kwarg_only else place
            changes.append(key)
            for alias in argument.alias_info.before_set:
                writes[alias] = key
    returned: list[int | str | None] = []
    for value in schema.returns:
        alias_info = value.alias_info
        aliases = alias_info.before_set if alias_info is not None and alias_info.is_write else ()
        returned.append(next((writes[alias] for alias in aliases if alias in writes), None))
    waits = WAITS.get(name, "")
    if name == "repeat_interleave" and overload._overloadname == "Tensor":
        waits = "size of the result"
    reshapes = torch.Tag.inplace_view in overload.tags and name not in ("resize_", "set_")
    launches = 0 if reshapes else _launches(overload, name)
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(
        overload.name(), "CompositeImplicitAutograd"
    )
    return Operator(name, launches, waits, tuple(returned), tuple(changes), reshapes, composite)


def _launches(overload: OpOverload, name: str) -> int:
    if name in LAUNCHES:
        return LAUNCHES[name]
    if name.startswith(("empty", "new_empty")) or name in ("_unsafe_view", "lift_fresh"):
        return 0
    schema = overload._schema
    gives = [value for value in schema.returns if "Tensor" in str(value.type)]
    views = bool(gives) and all(
        value.alias_info is not None and not value.alias_info.is_write for value in gives
    )
    asks = not gives and not schema.is_mutable and name not in WAITS
    return 0 if views or asks else 1
