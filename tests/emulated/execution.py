"""Execution of operators on the emulated device: checks, counts, and computation on the CPU."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._mode_utils import no_dispatch

from tests.emulated.counts import Counts
from tests.emulated.operators import TABLES, get_operator

NAME: Final = "gpu"
DEVICE: Final = torch.device("privateuseone", 0)  # torch's name for it before its registration
aten = torch.ops.aten


class MixedDevicesError(RuntimeError):
    """An operation has tensors on the host and on the device, which CUDA rejects."""


class DeviceTensor(torch.Tensor):
    """A tensor on the emulated device, with its values in a private CPU tensor.

    Attributes:
        plain: The CPU tensor, with the same shape and strides.
        execution: Runs the operators of all tensors on the device.
    """

    plain: Tensor
    execution: ClassVar["Execution"]

    @staticmethod
    def __new__(cls, plain: Tensor) -> "DeviceTensor":
        # in inference mode, a view of a normal tensor is a normal tensor, too
        if torch.is_inference_mode_enabled() and not plain.is_inference():
            with torch.inference_mode(False):
                return cls.__new__(cls, plain)
        wrapper: DeviceTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            plain.size(),
            strides=plain.stride(),
            storage_offset=plain.storage_offset(),
            dtype=plain.dtype,
            device=DEVICE,
        )
        wrapper.plain = plain
        return wrapper

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return cls.execution.run(func, args, kwargs or {})

    def tolist(self) -> Any:
        """Return the values, for which the host waits."""
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Raise an error as on CUDA, unless it is forced."""
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() to copy the "
            "tensor to host memory first."
        )

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()


class Execution:
    """Runs operators.

    Attributes:
        counts: Receives launches and waits.
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self._special = {
            aten.copy_.default: self._copy,
            aten._to_copy.default: self._to_copy,
            aten.scaled_dot_product_attention.default: self.attention,
        }

    def run(self, func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run an operator that has an argument on the device, or creates a tensor there.

        Raises:
            MixedDevicesError: The arguments are on two devices, and CUDA would reject them.
        """
        if (special := self._special.get(func)) is not None:
            return special(*args, **kwargs)
        operator = get_operator(func)
        if operator.composite:  # in inference mode, torch does not decompose operators like linear
            return func.decompose(*args, **kwargs)
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != NAME:
            raise RuntimeError(f"{operator.name}: a '{NAME}' generator was expected, not the CPU's")
        if operator.name in TABLES["indexing"]:
            self._check_indices(*args[:3])
        else:
            self._check(operator.name, func._schema.is_mutable, args, kwargs)
        self.counts.launch(operator.name, operator.launches)
        if operator.waits:
            self.counts.sync(operator.name)
        return self._compute(func, args, kwargs)

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **settings: Any,
    ) -> Any:
        """Run torch.nn.functional.scaled_dot_product_attention.

        It is one kernel if CUDA has a fused one (transformers/cuda/sdp_utils.cpp). This requires
        four dimensions, a head size that is a multiple of 4 (or of 8 in half precision), and a mask
        of floats. The mask is padded and copied unless its rows begin at multiples of 8. If CUDA
        has no fused kernel, attention is decomposed into its operators. The values are computed by
        the CPU's fused kernel.
        """
        inputs = (query, key, value)
        multiple = 4 if query.dtype == torch.float32 else 8
        fused = not dropout_p and query.dtype in (torch.float32, torch.bfloat16, torch.float16)
        fused &= all(x.ndim == 4 and x.shape[:2] == query.shape[:2] for x in inputs)
        fused &= all(x.shape[-1] % multiple == 0 for x in inputs)
        fused &= attn_mask is None or attn_mask.dtype == query.dtype
        if not fused:
            return aten.scaled_dot_product_attention.default.decompose(
                *inputs, attn_mask, dropout_p, is_causal, **settings
            )
        if attn_mask is not None and any(stride % 8 for stride in attn_mask.stride()[:-1]):
            self.counts.launch("padded mask", 2)
        out, _ = aten._scaled_dot_product_flash_attention_for_cpu.default(
            *inputs, dropout_p, is_causal, attn_mask=attn_mask, scale=settings.get("scale")
        )
        return out

    def _check(self, name: str, writes: bool, args: Sequence[Any], kwargs: Any) -> None:
        """Check devices: only a scalar on the host that is not written to may be mixed in."""
        tensors: list[Tensor] = []
        _map_tensors(Tensor, tensors.append, (args, kwargs))
        host = [x for x in tensors if not isinstance(x, DeviceTensor)]
        if len(host) in (0, len(tensors)):
            return
        if name in TABLES["strict"] or any(x.ndim for x in host) or (writes and host[0] is args[0]):
            shapes = ", ".join(f"{x.device} {[*x.shape]}" for x in tensors)
            raise MixedDevicesError(
                f"Expected all tensors to be on the same device, but found at least two devices, "
                f"{NAME}:0 and cpu! ({name} of {shapes})"
            )

    def _check_indices(
        self, tensor: Tensor, indices: Sequence[Tensor | None], values: Tensor | None = None
    ) -> None:
        """Check the devices of indexing. Indices on the host are allowed, and copied."""
        if not isinstance(tensor, DeviceTensor):
            raise MixedDevicesError("indices should be on the same device as the indexed tensor")
        self._check("index", False, (tensor, values), {})
        for index in indices:
            if isinstance(index, DeviceTensor) and index.dtype in (torch.bool, torch.uint8):
                self.counts.launch("nonzero")
                self.counts.sync("boolean index")
        for indexing in (*indices, values):
            if indexing is not None and not isinstance(indexing, DeviceTensor):
                self.counts.copy("copy of an index", indexing, to_device=True, waits=True)

    def _compute(self, func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Compute an operator on the CPU tensors, and wrap its results."""
        device = kwargs.get("device")
        result_on_device = device is None or torch.device(device).type == NAME
        # operators that change an argument in place must return the same wrapper
        wrappers: dict[int, DeviceTensor] = {}

        def unwrap(tensor: DeviceTensor) -> Tensor:
            wrappers[id(tensor.plain)] = tensor
            return tensor.plain

        def wrap(tensor: Tensor) -> Tensor:
            wrapper = wrappers.get(id(tensor))
            return DeviceTensor(tensor) if wrapper is None else wrapper

        settings = _map_tensors(DeviceTensor, unwrap, kwargs)
        if device is not None and result_on_device:
            settings["device"] = torch.device("cpu")
        if "pin_memory" in settings:
            settings["pin_memory"] = None
        result = func(*_map_tensors(DeviceTensor, unwrap, args), **settings)
        if torch.Tag.inplace_view in func.tags:
            with no_dispatch():  # squeeze_ and similar must also change the wrapper's shape
                func(*args, **kwargs)
        return _map_tensors(Tensor, wrap, result) if result_on_device else result

    def _copy(self, to: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        """Run Tensor.copy_. The host waits, except for non-blocking copies from pinned memory."""
        plain, plain_source = (getattr(x, "plain", x) for x in (to, source))
        if plain is not to and plain_source is not source:
            self.counts.launch("copy_")
        else:
            waits = not (non_blocking and hasattr(source, "pinned"))
            self.counts.copy("copy_", source, to_device=plain is not to, waits=waits)
        plain.copy_(plain_source)
        return to

    def _to_copy(
        self,
        tensor: DeviceTensor,
        *,
        device: torch.device | None = None,
        pin_memory: bool | None = None,
        non_blocking: bool = False,
        **settings: Any,
    ) -> Tensor:
        """Run Tensor.to of a device tensor."""
        copy: Tensor = aten._to_copy.default(tensor.plain, **settings)
        if device is None or torch.device(device).type == NAME:
            self.counts.launch("_to_copy")
            return DeviceTensor(copy)
        self.counts.copy("_to_copy", tensor, to_device=False, waits=True)
        return copy


def _map_tensors(kind: type[Any], function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to each tensor of a class in nested arguments or results."""
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, list | tuple):
        return type(tree)([_map_tensors(kind, function, value) for value in tree])
    if isinstance(tree, dict):
        return {name: _map_tensors(kind, function, value) for name, value in tree.items()}
    return tree
