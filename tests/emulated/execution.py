"""How an operator runs on the emulated device: checked, counted, and computed on the CPU."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._mode_utils import no_dispatch

from tests.emulated.attention import Fused, fused_kernel
from tests.emulated.counts import Counts
from tests.emulated.operators import (
    INDEXING,
    STRICT,
    Operator,
    operator_of,
)

NAME: Final = "gpu"
DEVICE: Final = torch.device("privateuseone", 0)  # what torch calls it until it is registered
aten = torch.ops.aten


class MixedDevicesError(RuntimeError):
    """Tensors of the host and of the device meet in one operation, which CUDA refuses."""


class Pinned:
    """Which host tensors are pinned, pretended: the CPU build of torch pins nothing.

    Views share the storage and are pinned with it, as on CUDA.
    """

    def __init__(self) -> None:
        # A weak reference keeps a storage's address from being given to another one.
        self._storages: dict[int, StorageWeakRef] = {}

    def pin(self, tensor: Tensor) -> Tensor:
        """Pin a tensor's storage; the tensor itself is returned."""
        self._storages = {k: v for k, v in self._storages.items() if not v.expired()}
        storage = tensor.untyped_storage()
        self._storages[storage._cdata] = StorageWeakRef(storage)
        return tensor

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._storages


class DeviceTensor(torch.Tensor):
    """A tensor on the emulated device; its values are those of a CPU tensor that only this knows.

    Attributes:
        plain: the CPU tensor, of the same shape and strides.
        execution: what runs the operators of all such tensors; torch has one such device.
    """

    plain: Tensor
    execution: ClassVar["Execution"]

    @staticmethod
    def __new__(cls, plain: Tensor) -> "DeviceTensor":
        # a view of an ordinary tensor is an ordinary one, in inference mode, too
        if torch.is_inference_mode_enabled() and not plain.is_inference():
            with torch.inference_mode(False):
                return cls.__new__(cls, plain)
        made: DeviceTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            plain.size(),
            strides=plain.stride(),
            storage_offset=plain.storage_offset(),
            dtype=plain.dtype,
            device=DEVICE,
        )
        made.plain = plain
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return cls.execution.run(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"{self.plain!r} on {NAME}"

    def tolist(self) -> Any:
        """Its values, for which the host waits."""
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refused, as on CUDA, unless it is forced."""
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() to copy the "
            "tensor to host memory first."
        )

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()


def plain_of(tensor: Tensor) -> Tensor:
    """The CPU tensor behind one on the device, or the tensor itself."""
    return tensor.plain if isinstance(tensor, DeviceTensor) else tensor


def _on_device(tensor: Tensor) -> Tensor:
    return tensor if isinstance(tensor, DeviceTensor) else DeviceTensor(tensor)


class Execution:
    """Runs operators.

    Attributes:
        counts: where launches and waits go.
        pinned: the host's pinned memory.
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self.pinned = Pinned()
        self._special: Mapping[OpOverload, Callable[..., Any]] = {
            aten.copy_.default: self._copy,
            aten._to_copy.default: self._to_copy,
            aten.scaled_dot_product_attention.default: self.attention,
        }

    def run(self, func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run an operator of which an argument is on the device, or that makes a tensor there.

        Raises:
            MixedDevicesError: the arguments are on two devices, and CUDA has no exception for it.
        """
        special = self._special.get(func)
        if special is not None:
            return special(*args, **kwargs)
        operator = operator_of(func)
        if operator.composite:  # in inference mode linear and the like arrive whole
            return func.decompose(*args, **kwargs)
        self._check(operator, args, kwargs)
        self._count(operator, args, kwargs)
        return self._compute(func, operator, args, kwargs)

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """torch.nn.functional.scaled_dot_product_attention."""
        parts = (query, key, value)
        given = [x for x in (*parts, attn_mask) if x is not None]
        if not all(isinstance(x, DeviceTensor) for x in given):
            self._refuse("scaled_dot_product_attention", given)
        kernel = None
        if not enable_gqa:
            kernel = fused_kernel(query, key, value, attn_mask, dropout_p, is_causal)
        if kernel is None:
            plainly: Tensor = aten.scaled_dot_product_attention.default.decompose(
                *parts, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
            return plainly
        fused = Fused(kernel, plain_of, DeviceTensor, self._launch)
        mask = None if attn_mask is None else plain_of(attn_mask)
        return fused(parts, mask, is_causal=is_causal, scale=scale)

    def _check(self, operator: Operator, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != NAME:
            raise RuntimeError(
                f"Expected a '{NAME}' device type for generator but found "
                f"'{generator.device.type}' ({operator.name})"
            )
        if operator.name in INDEXING:
            self._check_indices(operator, *args)
            return
        tensors = list(_tensors((args, kwargs), Tensor))
        host = [x for x in tensors if not isinstance(x, DeviceTensor)]
        if len(host) in (0, len(tensors)):
            return
        for key in operator.changes:
            changed = args[key] if isinstance(key, int) else kwargs[key]
            if any(not isinstance(x, DeviceTensor) for x in _tensors(changed, Tensor)):
                self._refuse(operator.name, tensors)
        if operator.name in STRICT or any(x.ndim for x in host):
            self._refuse(operator.name, tensors)

    def _check_indices(
        self,
        operator: Operator,
        tensor: Tensor,
        indices: Sequence[Tensor | None],
        values: Tensor | None = None,
        *more: Any,
    ) -> None:
        """Indices of the host may pick from a tensor on the device, and are copied for it."""
        given = [index for index in indices if index is not None]
        if not isinstance(tensor, DeviceTensor):
            raise MixedDevicesError(
                "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
            )
        for index in given:
            if not isinstance(index, DeviceTensor):
                self.counts.copy("copy of an index", _n_bytes(index), to_device=True, waits=True)
            elif index.dtype in (torch.bool, torch.uint8):
                self.counts.launch("nonzero")
                self.counts.sync("boolean index")
        if values is not None and not isinstance(values, DeviceTensor):
            if values.ndim:
                self._refuse(operator.name, [tensor, values])
            self.counts.copy("copy of a value", _n_bytes(values), to_device=True, waits=True)

    def _count(self, operator: Operator, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.counts.launch(operator.name, operator.launches)
        if operator.waits:
            self.counts.sync(operator.waits)

    def _compute(
        self, func: OpOverload, operator: Operator, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        device = kwargs.get("device")
        here = device is None or torch.device(device).type == NAME
        settings = {name: _mapped(DeviceTensor, plain_of, x) for name, x in kwargs.items()}
        if device is not None and here:
            settings["device"] = torch.device("cpu")
        if "pin_memory" in settings:
            settings["pin_memory"] = None
        plain = _mapped(DeviceTensor, plain_of, args)
        made = func(*plain, **settings)
        for changed in operator.changes:
            value = args[changed] if isinstance(changed, int) else kwargs[changed]
            if any(map(_is_stale, _tensors(value, DeviceTensor))):
                if not operator.reshapes:
                    raise NotImplementedError(f"{operator.name} to another shape: not emulated")
                with no_dispatch():  # squeeze_ and the like, on the tensor's own sizes
                    func(*args, **kwargs)
        if any(place is not None for place in operator.written):
            several = made if len(operator.written) > 1 else (made,)
            given = tuple(
                value if place is None else args[place] if isinstance(place, int) else kwargs[place]
                for value, place in zip(several, operator.written, strict=True)
            )
            made = given if len(given) > 1 else given[0]
        return _mapped(Tensor, _on_device, made) if here else made

    def _copy(self, to: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        """Tensor.copy_; the host waits unless it says otherwise and its memory is pinned."""
        to_device, from_device = (isinstance(x, DeviceTensor) for x in (to, source))
        plain, plain_source = plain_of(to), plain_of(source)
        if to_device and from_device:
            self.counts.launch("copy_")
        else:
            waits = not (non_blocking and (plain_source if to_device else plain) in self.pinned)
            n_bytes = _n_bytes(plain_source)
            self.counts.copy("copy_", n_bytes, to_device=to_device, waits=waits)
        plain.copy_(plain_source)
        return to

    def _to_copy(
        self,
        tensor: Tensor,
        *,
        device: torch.device | None = None,
        pin_memory: bool | None = None,
        non_blocking: bool = False,
        **settings: Any,
    ) -> Tensor:
        """Tensor.to, of a tensor on the device; the host's copy is pinned if it need not wait."""
        plain = plain_of(tensor)
        if device is None or torch.device(device).type == NAME:
            self.counts.launch("_to_copy")
            return DeviceTensor(aten._to_copy.default(plain, **settings))
        self.counts.copy("_to_copy", _n_bytes(plain), to_device=False, waits=not non_blocking)
        made: Tensor = aten._to_copy.default(plain, **settings)
        return self.pinned.pin(made) if non_blocking else made

    def _launch(self, operator: str, n: int) -> None:
        self.counts.launch(operator, n)  # the counts of that moment

    def _refuse(self, operator: str, tensors: Sequence[Tensor]) -> None:
        shapes = [f"{x.device} {[*x.shape]}" for x in tensors]
        raise MixedDevicesError(
            f"Expected all tensors to be on the same device, but found at least two devices, "
            f"{NAME}:0 and cpu! ({operator} of {', '.join(shapes)})"
        )


def _tensors(tree: Any, kind: type[Any]) -> Iterator[Any]:
    """All tensors of a kind among arguments, in order."""
    if isinstance(tree, kind):
        yield tree
    elif isinstance(tree, list | tuple):
        for inner in tree:
            yield from _tensors(inner, kind)
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()), kind)


def _mapped(kind: type[Any], change: Callable[[Any], Any], tree: Any) -> Any:
    """The same arguments or results with each tensor of a kind changed."""
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, list | tuple):
        return type(tree)([_mapped(kind, change, inner) for inner in tree])
    return tree


def _n_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _is_stale(tensor: DeviceTensor) -> bool:
    """Whether the memory behind a tensor has got other sizes than it says."""
    return tensor.shape != tensor.plain.shape or tensor.stride() != tensor.plain.stride()
