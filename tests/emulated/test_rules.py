"""The emulated device keeps CUDA's rules, and counts what CUDA would launch and wait for."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import backend_registration

from ship.clip import FrozenCLIP
from ship.features import FeatureSet
from tests.emulated import EmulatedDevice, MixedDevicesError, emulated_device, why_missing
from tests.emulated.counts import ELSEWHERE
from tests.ship.conftest import final_task
from tests.ship.generators.cases import build


def on(x: Tensor) -> Tensor:
    """The tensor on the device."""
    return x.to("gpu")


def numbers() -> Tensor:
    """0, 1, 2, 3 on the device."""
    return on(torch.arange(4.0))


REFUSED: dict[str, Callable[[], object]] = {
    "a sum": lambda: numbers() + torch.ones(4),
    "a sum in place on the host": lambda: torch.ones(4).add_(numbers()),
    "a scalar of the host that is written": lambda: torch.ones(()).add_(numbers().sum()),
    "a product": lambda: numbers() @ torch.ones(4),
    "where": lambda: torch.where(torch.ones(4, dtype=torch.bool), numbers(), numbers()),
    "cat": lambda: torch.cat([numbers(), torch.ones(4)]),
    "stack with a scalar of the host": lambda: torch.stack([numbers()[0], torch.tensor(1.0)]),
    "gather": lambda: numbers().gather(0, torch.tensor([1])),
    "embedding": lambda: F.embedding(torch.tensor([1]), on(torch.ones(4, 2))),
    "layer_norm": lambda: F.layer_norm(numbers(), (4,), torch.ones(4)),
    "attention's mask": lambda: F.scaled_dot_product_attention(
        *(on(torch.ones(1, 1, 2, 4)) for _ in range(3)), attn_mask=torch.zeros(2, 2)
    ),
    "an index on the device into the host's": lambda: torch.ones(4)[on(torch.tensor([1]))],
    "values of the host": lambda: numbers().index_put_((on(torch.tensor([1])),), torch.ones(1)),
    "a loss": lambda: F.cross_entropy(on(torch.ones(2, 3)), torch.tensor([0, 1])),
    "an optimizer's list": lambda: torch._foreach_add_([numbers()], [torch.ones(4)]),
}


@pytest.mark.parametrize("mixed", REFUSED.values(), ids=REFUSED.keys())
def test_mixed_devices_are_refused(device: EmulatedDevice, mixed: Callable[[], object]) -> None:
    """With CUDA's words."""
    with pytest.raises(MixedDevicesError, match="same device"):
        mixed()


def test_mixed_devices_are_refused_in_the_backward_pass(device: EmulatedDevice) -> None:
    """Which runs in a thread of its own."""

    class Forgetful(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * torch.full((4,), 2.0)

    x = numbers().requires_grad_()
    with pytest.raises(MixedDevicesError):
        Forgetful.apply(x).sum().backward()  # type: ignore[no-untyped-call]


def test_other_refusals_of_cuda(device: EmulatedDevice) -> None:
    """No numpy of what lies on the device, and no generator of the host for it."""
    for look in (lambda: numbers().numpy(), lambda: np.asarray(numbers())):
        with pytest.raises(TypeError, match=r"Use Tensor\.cpu\(\)"):
            look()
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(4, device=device.name, generator=torch.Generator())


ALLOWED: dict[str, tuple[Callable[[], object], int, int]] = {
    # what, launches, waits; numbers() itself is one launch and one wait
    "a number": (lambda: numbers() * 2, 2, 1),
    "a scalar of the host": (lambda: numbers() * torch.tensor(2.0), 2, 1),
    "a view": (lambda: numbers()[1:].reshape(1, 3).expand(2, 3).unsqueeze(0).mT, 1, 1),
    "empty memory": (lambda: torch.empty_like(numbers()), 1, 1),
    "a factory": (lambda: torch.arange(4, device="gpu"), 1, 0),
    "a tensor of numbers": (lambda: torch.tensor([1.0, 2.0], device="gpu"), 1, 1),
    "back": (lambda: numbers().cpu(), 2, 2),
    "a list": (lambda: numbers().tolist(), 2, 2),
    "a value": (lambda: numbers()[0].item(), 2, 2),
    "a decision": (lambda: bool(numbers().any()), 3, 2),
    "nonzero": (lambda: numbers().nonzero(), 2, 2),
    "unique": (lambda: numbers().unique(), 2, 2),
    "masked_select": (lambda: numbers().masked_select(numbers() > 1), 4, 3),
    "a boolean index": (lambda: numbers()[numbers() > 1], 5, 3),
    "an index": (lambda: numbers()[on(torch.tensor([1]))], 3, 2),
    "an index of the host": (lambda: numbers()[torch.tensor([1])], 3, 2),
    "a list as an index": (lambda: numbers()[[1]], 3, 2),
    "repeat_interleave of a number": (lambda: numbers().repeat_interleave(2), 2, 1),
    "repeat_interleave of counts": (
        lambda: numbers().repeat_interleave(on(torch.tensor([1, 2, 0, 1]))), 4, 3,
    ),
    "equal": (lambda: torch.equal(numbers(), numbers()), 3, 3),
    "cholesky": (lambda: torch.linalg.cholesky(torch.eye(3, device="gpu")), 3, 1),
    "softmax": (lambda: numbers().softmax(0), 2, 1),
    "linear is one product": (
        lambda: F.linear(on(torch.ones(2, 4)), on(torch.ones(3, 4)), on(torch.ones(3))), 4, 3,
    ),
    "layer_norm is one kernel": (lambda: F.layer_norm(numbers(), (4,)), 2, 1),
    "normalize is made of three": (lambda: F.normalize(numbers(), dim=0), 4, 1),
    "squeeze_ moves nothing": (lambda: numbers().unsqueeze(0).squeeze_(0), 1, 1),
}  # fmt: skip


@pytest.mark.parametrize(("call", "launches", "waits"), ALLOWED.values(), ids=ALLOWED.keys())
def test_launches_and_waits(
    device: EmulatedDevice, call: Callable[[], object], launches: int, waits: int
) -> None:
    """Also within inference mode, where composite operators arrive whole."""
    for mode in (torch.enable_grad, torch.inference_mode):
        with mode(), device.counting() as counts:
            call()
        assert (counts.n_launches, counts.n_syncs) == (launches, waits)


def test_values_are_the_cpus(device: EmulatedDevice) -> None:
    """Bit for bit, gradients too; a moved module has parameters on the device."""
    torch.manual_seed(0)
    host = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 3))
    moved = copy.deepcopy(host).to(device.name)
    assert all(p.device.type == device.name and p.is_leaf for p in moved.parameters())
    x, labels = torch.randn(6, 5), torch.randint(3, (6,))
    F.cross_entropy(host(x), labels).backward()
    F.cross_entropy(moved(on(x)), on(labels)).backward()
    for one, other in zip(host.parameters(), moved.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.equal(one.grad, other.grad.cpu())
    again = copy.deepcopy(moved)
    assert torch.equal(again(on(x)).cpu(), host(x))


def test_memory_is_shared_by_views(device: EmulatedDevice) -> None:
    """A view sees what is written to its tensor, and the other way round."""
    x = torch.zeros(4, device=device.name)
    x[1:3].fill_(2.0)
    view = x.view(2, 2)
    x.add_(1.0)
    assert view.tolist() == [[1.0, 3.0], [3.0, 1.0]]


def test_pinned_memory_is_copied_without_waiting(device: EmulatedDevice) -> None:
    """If non_blocking says so, too; views of pinned memory are pinned, copies are not."""
    pinned = torch.arange(6.0).pin_memory()
    assert pinned.is_pinned() and pinned[2:].is_pinned() and not pinned.clone().is_pinned()
    for source, non_blocking, waits in (
        (pinned, True, 0), (pinned[3:], True, 0), (pinned, False, 1), (pinned.clone(), True, 1),
    ):  # fmt: skip
        with device.counting() as counts:
            moved = source.to(device.name, non_blocking=non_blocking)
        assert (counts.n_launches, counts.n_syncs) == (1, waits)
        assert counts.sent == 4 * len(source) and counts.fetched == 0
        assert torch.equal(moved.cpu(), source)
    with device.counting() as counts:
        back = on(pinned).to("cpu", non_blocking=True)
    assert back.is_pinned() and counts.fetched == 24
    assert counts.n_syncs == 1  # that of on()


def test_what_happens_is_counted_where_it_happens(
    device: EmulatedDevice, device_clip: FrozenCLIP, features: FeatureSet
) -> None:
    """At the innermost line of ship; a backward pass at the line that asks for it."""
    task = final_task(device_clip, features, [0, 1])
    generator = build("mlp_vae", task, device_clip, [0, 1])
    with device.counting() as counts:
        generator.train_epoch()
    backward = [event for event in counts.launches if event.what.endswith("_backward")]
    assert backward and {event.where.partition(":")[0] for event in backward} == {
        "ship/generators/vae.py"
    }
    affine = [event.where for event in counts.launches if event.what == "baddbmm"]
    assert affine and all(where.startswith("ship/training/replicas.py:") for where in affine)
    with device.counting() as counts:
        numbers().tolist()
    assert {event.where for event in counts.syncs} == {ELSEWHERE}


def test_counts_are_kept_apart(device: EmulatedDevice) -> None:
    """What is counted inside is not counted around it."""
    with device.counting() as outer:
        numbers()
        with device.counting() as inner:
            numbers()
            numbers()
    assert (outer.n_launches, inner.n_launches) == (1, 2)


def test_other_threads_use_the_device(device: EmulatedDevice) -> None:
    """And are counted."""
    found: list[Tensor] = []
    threads = [
        threading.Thread(target=lambda: found.append((numbers() + 1).cpu())) for _ in range(4)
    ]
    with device.counting() as counts:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 4 and all(x.tolist() == [1, 2, 3, 4] for x in found)
    assert counts.n_launches == 12


def test_an_older_torch_skips_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch has had the hook since 2.9; ship needs 2.6."""
    monkeypatch.delattr(backend_registration, "_setup_privateuseone_for_python_backend")
    reason = why_missing()
    assert reason is not None and torch.__version__ in reason
    with pytest.raises(pytest.skip.Exception, match=r"2\.9"), emulated_device():
        pass
