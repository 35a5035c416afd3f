"""Random streams, batches and learning rates of seeds that are trained together."""

from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ship.finetuners.prompts import compute_dassl_lr
from ship.methods import Finetuner
from ship.seeds import BatchStream, SeedOptimizer, SeedRng


def test_draws_of_a_seed_do_not_depend_on_other_seeds() -> None:
    """Its position does not matter; another purpose gives other draws."""
    alone = SeedRng([7], "x").normal(4)
    assert torch.equal(SeedRng([3, 7], "x").normal(4)[1], alone[0])
    assert torch.equal(SeedRng([7, 3], "x").normal(4)[0], alone[0])
    assert not torch.equal(SeedRng([7], "y").normal(4), alone)


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=3), size=st.integers(1, 7))
def test_batches_contain_all_items_equally_often(counts: list[int], size: int) -> None:
    """After any number of batches, counts differ by at most one."""
    stream = BatchStream(counts, size, range(len(counts)), "batches")
    numbers = torch.cat([stream.at(step) for step in range(5)], dim=1)
    for row, count in zip(numbers, counts, strict=True):
        times = torch.bincount(row, minlength=count)
        assert len(times) == count and int(times.max() - times.min()) <= 1


def test_each_shuffle_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the same shuffle reuses it; an earlier step draws it again."""
    sizes: list[int] = []
    permute = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda n, **k: sizes.append(n) or permute(n, **k))
    stream = BatchStream([6, 4], 2, [0, 1], "batches")
    batches = [stream.at(step) for step in range(3)]
    assert sizes == [6, 4, 4]  # the third step begins the second seed's next shuffle
    assert torch.equal(stream.at(0), batches[0]) and sizes == [6, 4, 4, 4]


@given(count=st.integers(1, 9), size=st.integers(1, 7), seed=st.integers(0, 3))
def test_drop_last_shuffles_again_in_each_epoch(count: int, size: int, seed: int) -> None:
    """No row occurs twice in an epoch, and each epoch has its own shuffle."""
    size = min(size, count)
    steps = count // size
    stream = BatchStream([count], size, [seed], "batches", epoch_steps=steps)
    whole = BatchStream([count], count, [seed], "batches")
    for epoch in range(3):
        shown = torch.cat([stream.at(epoch * steps + step)[0] for step in range(steps)])
        assert torch.equal(shown, whole.at(epoch)[0, : steps * size])


def test_default_rate_is_a_cosine_to_0() -> None:
    """Steps after the last epoch have rate 0."""
    rates = [Finetuner.lr_at(cast(Any, None), 0.5, step / 2, epochs=2) for step in range(6)]
    assert rates == pytest.approx([0.5, 0.4268, 0.25, 0.0732, 0, 0], abs=1e-4)


def test_dassl_rate_equals_torchs_scheduler() -> None:
    """One epoch of constant warm-up, followed by CosineAnnealingLR."""
    epochs, base = 5, 0.2
    inner = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(inner, epochs)
    wanted = [1e-5]
    for _ in range(epochs - 1):
        wanted.append(inner.param_groups[0]["lr"])
        inner.step()
        cosine.step()
    assert [
        compute_dassl_lr(base, epoch + 0.9, epochs) for epoch in range(epochs)
    ] == pytest.approx(wanted)


OPTIMIZERS: list[tuple[type[torch.optim.Optimizer], dict[str, float]]] = [
    (torch.optim.SGD, {}),
    (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (torch.optim.Adam, {"weight_decay": 0.1}),
    (torch.optim.AdamW, {"weight_decay": 0.1}),
]


@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS, ids=str)
def test_each_seed_can_have_its_own_learning_rate(
    kind: type[torch.optim.Optimizer], settings: dict[str, float]
) -> None:
    """Its steps are those of a plain optimizer with its rates."""
    stream = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, dtype=torch.float64, generator=stream)
    gradients = torch.randn(5, 3, 4, dtype=torch.float64, generator=stream)
    rates = torch.rand(5, 3, generator=stream).tolist()
    rates[2] = [0.3, 0.3, 0.3]
    batched = start.clone().requires_grad_()
    optimizer = SeedOptimizer(kind, [batched], 0.5, **settings)
    alone = [row.clone().requires_grad_() for row in start]
    inner = [kind([row], lr=0.5, **settings) for row in alone]  # type: ignore[call-arg]
    for by_seed, gradient in zip(rates, gradients, strict=True):
        batched.grad = gradient.clone()
        optimizer.step(lambda base, by_seed=by_seed: [base * rate for rate in by_seed])
        for row, seed_weights, rate, part in zip(alone, inner, by_seed, gradient, strict=True):
            row.grad = part.clone()
            seed_weights.param_groups[0]["lr"] = 0.5 * rate
            seed_weights.step()
    torch.testing.assert_close(batched, torch.stack(alone).detach().requires_grad_())
