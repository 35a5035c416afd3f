"""What an operator of torch does on CUDA: how many kernels it launches, and whether the host waits.

An operator is one launch, a view or a question about a tensor's shape none. Operators of torch that
are made of others (linear, layer_norm, normalize) are counted as what they are made of. The tables
below are the exceptions that are known, read in torch's source (aten/src/ATen/native). Sorting,
unique, linear algebra and nonzero launch several small kernels and are counted as one: counts are a
lower bound.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
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
    many: it works on lists of tensors at once (torch._foreach_*, torch._fused_*).
    """

    name: str
    launches: int
    waits: str
    written: tuple[int | str | None, ...]
    changes: tuple[int | str, ...]
    reshapes: bool
    composite: bool
    many: bool


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
    many = name.startswith(("_foreach_", "_fused_"))
    waits = WAITS.get(name, "")
    if name == "repeat_interleave" and overload._overloadname == "Tensor":
        waits = "size of the result"
    reshapes = torch.Tag.inplace_view in overload.tags and name not in ("resize_", "set_")
    launches = 0 if reshapes else _launches(overload, name)
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(
        overload.name(), "CompositeImplicitAutograd"
    )
    return Operator(
        name, launches, waits, tuple(returned), tuple(changes), reshapes, composite, many
    )


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


# How much one launch of a multi-tensor kernel takes, by the number of lists that go in
# (cuda/MultiTensorApply.cuh, for arguments of at most 4 KB).
MOST_TENSORS: Final = (110, 64, 48, 36, 30)
MOST_CHUNKS: Final = 320
CHUNK: Final = 65_536


def multi_tensor_launches(lists: Sequence[Sequence[Tensor]]) -> int:
    """Launches of an operator on lists of tensors (torch._foreach_*, torch._fused_*).

    Args:
        lists: that go in, all of one length; the first one's sizes decide.

    Returns:
        One for as many tensors and chunks as fit into a kernel's arguments; one for each tensor
        where they do not lie dense in memory or are of several types.
    """
    if not lists or not lists[0]:
        return 0
    tensors = lists[0]
    alike = len({x.dtype for same in lists for x in same}) == 1
    if not alike or not all(x.is_contiguous() for same in lists for x in same):
        return len(tensors)
    most = MOST_TENSORS[min(len(lists), len(MOST_TENSORS)) - 1]
    launches = held = chunks = 0
    for tensor in tensors:
        held += 1
        left = math.ceil(tensor.numel() / CHUNK)
        while left:
            taken = min(left, MOST_CHUNKS - chunks)
            chunks += taken
            left -= taken
            if chunks == MOST_CHUNKS or (held == most and not left):
                launches += 1
                chunks = 0
                held = 1 if left else 0
    return launches + (chunks > 0)


def lists_of(arguments: Sequence[Any]) -> list[list[Tensor]]:
    """The lists of tensors among an operator's arguments, but for step counts (no dimensions)."""
    found = []
    for argument in arguments:
        if isinstance(argument, list | tuple) and argument:
            tensors = [x for x in argument if isinstance(x, torch.Tensor)]
            if len(tensors) == len(argument) and any(x.ndim for x in tensors):
                found.append(tensors)
    return found
