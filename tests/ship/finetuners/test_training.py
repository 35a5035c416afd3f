"""Training of fine-tuners: start, optimizer steps, and LP++ by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD, Adam, AdamW
from torch.utils.data import DataLoader

from ship.clip import FrozenCLIP
from ship.finetuners.batched import BatchedFinetuner
from ship.subsets import FeatureSet
from ship.tasks import Task
from tests.case_files import load_cases
from tests.ship.by_hand import Array
from tests.ship.conftest import selection_task
from tests.ship.finetuners.cases import SEEDS, built, trained

CASES = load_cases(__file__, "training.yaml")
RATE = 0.05
# of three epochs: a step of each is taken at this rate, or at this share of the rate
COSINE = [(None, 1), (None, 0.75), (None, 0.25)]
DASSL = [(1e-5, 0), (None, 1), (None, 0.75)]
STEPS: dict[str, tuple[Any, dict[str, Any]]] = {
    "coop": (SGD, {}),
    **dict.fromkeys(
        ("cocoop", "kgcoop", "coop_dept", "kgcoop_dept"),
        (SGD, {"momentum": 0.9, "weight_decay": 5e-4}),
    ),
    "tcp": (Adam, {"eps": 1e-3, "weight_decay": 5e-4}),
    "clip_adapter": (AdamW, {"weight_decay": 0}),
    "linear_adapter": (Adam, {"eps": 1e-4}),
    "tip_adapter_f": (AdamW, {"eps": 1e-4}),
    "linear_probe": (AdamW, {"weight_decay": 0}),
    **dict.fromkeys(("zs_lp", "clap"), (SGD, {"momentum": 0.9})),
}


@pytest.fixture(scope="module")
def task(clip64: FrozenCLIP, features: FeatureSet) -> Task:
    """Two of four classes have three images in three views; seeds differ in the classes."""
    return selection_task(clip64, features, [7, 2], shots=3)


@pytest.mark.parametrize("name", STEPS)
def test_training_steps_equal_the_authors_optimizer(
    name: str, task: Task, clip64: FrozenCLIP
) -> None:
    """Three steps on all images; DePT's head has 6.5 times the rate."""
    still = replace(task, features=task.features[:, :, :1].expand_as(task.features))
    settings = {"lr": RATE, "epochs": 3, "batch_size": 256}
    ours, theirs = (built(name, settings, still, clip64) for _ in range(2))
    trained = theirs.stack.trained
    rates = [RATE * (6.5 if key.startswith("head.") else 1) for key in trained]
    kind, options = STEPS[name]
    optimizer = kind([{"params": [value]} for value in trained.values()], lr=RATE, **options)
    for fixed, share in DASSL if options.get("weight_decay") else COSINE:
        loss = theirs.loss(still.features[:, :, 0], still.labels, None)
        torch.testing.assert_close(ours.train_epoch()["loss"], loss.detach())
        optimizer.zero_grad()
        loss.sum().backward()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = fixed or share * rate
        optimizer.step()
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, trained[key].detach(), atol=1e-8, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 6, 7])
@pytest.mark.parametrize("name", ["coop", "tcp", "clip_adapter", "clap"])
def test_drop_last_has_dassls_number_of_steps(
    name: str, batch_size: int, task: Task, clip64: FrozenCLIP
) -> None:
    """The last incomplete batch is dropped unless it is the only one."""
    settings = {"batch_size": batch_size, "epochs": 1}
    rows = range(task.rows_per_epoch)
    dropping = DataLoader(rows, batch_size, drop_last=len(rows) >= batch_size)  # type: ignore[arg-type]
    finetuners = [
        built(name, {**settings, "drop_last": drops}, task, clip64) for drops in (True, False)
    ]
    result = [finetuner.steps for finetuner in finetuners]
    assert result == [len(dropping), len(DataLoader(rows, batch_size))]  # type: ignore[arg-type]
    for finetuner in finetuners:
        finetuner.train_epoch()
    assert [int(finetuner._done) for finetuner in finetuners] == result


@pytest.mark.parametrize(("name", "settings", "rival"), CASES["rivals"])
def test_method_without_its_addition_equals_the_simpler_method(
    name: str, settings: dict[str, Any], rival: str, task: Task, clip64: FrozenCLIP
) -> None:
    """From the same start and batches, with synthetic features."""
    shared: dict[str, Any] = {"lr": RATE, "epochs": 4, "batch_size": 4}
    if "coop" in rival:
        shared |= {"n_ctx": 3, "ctx_init": None, "optimizer": "dassl"}
    ours = trained(built(name, {**settings, **shared}, task, clip64, 0.5))
    theirs = trained(built(rival, shared, task, clip64, 0.5))
    x = task.load_unseen()[0].features[:, 0]
    torch.testing.assert_close(ours.logits(x, {}), theirs.logits(x, {}), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("name", "choice"), CASES["zero_shot"])
def test_untrained_or_unweighted_adapters_equal_zero_shot(
    name: str, choice: dict[str, float], task: Task, clip64: FrozenCLIP
) -> None:
    """Methods that start at the text features, or have weight 0, give zero-shot logits."""
    x = task.features[0, :, 0]
    actual = built(name, {}, task, clip64, 0.5).logits(x, choice)
    torch.testing.assert_close(
        actual, (task.logit_scale * x @ task.text_features.T).expand(2, -1, -1)
    )


@pytest.mark.parametrize(("name", "first"), CASES["first"])
def test_inference_grid_starts_with_the_settings_and_contains_zero(
    name: str, first: dict[str, float], task: Task, clip64: FrozenCLIP
) -> None:
    """The configured options come first, so that they win a tie."""
    fixed = built(name, {**first, "tune_on_validation": False}, task, clip64)
    assert fixed.inference_grid == (first,)
    searched = built(name, {**first, "tune_on_validation": True}, task, clip64)
    assert searched.inference_grid[0] == first
    assert sum(0 in choice.values() for choice in searched.inference_grid) == 1


@pytest.mark.parametrize(
    ("name", "part"),
    [("clip_adapter", "down"), ("cocoop", "reduce.weight"), ("tcp", "net.reduce.weight")],
)
def test_bottleneck_has_at_least_one_unit(
    name: str, part: str, task: Task, clip64: FrozenCLIP
) -> None:
    """Units are feature size / reduction; prompt nets start as torch's linear layers."""
    for reduction, hidden in ((64, 1), (2, 8)):
        actual = built(name, {"reduction": reduction}, task, clip64)
        assert actual.learned()[part].shape == (2, 16, hidden)
    start, net = actual.state_dict(), part.removesuffix("reduce.weight")
    assert not torch.equal(*start[part])
    for layer, n_in in (("reduce", 16), ("expand", 8)) if net != part else ():
        for value in (start[f"{net}{layer}.weight"], start[f"{net}{layer}.bias"]):
            assert bool((value.abs() * n_in**0.5 < 1).all()) and not torch.equal(*value)
        assert abs(start[f"{net}{layer}.weight"].std().item() * (3 * n_in) ** 0.5 - 1) < 0.15


def rows(
    probe: BatchedFinetuner, task: Task, r: int, *, synthetic: bool
) -> tuple[Array, Array, Array]:
    """Return the views of one seed, their labels and weights."""
    n = task.counts[r]
    x = task.features[r, :n].reshape(3 * n, -1).numpy()
    y = task.labels[r, :n].numpy().repeat(3)
    share = np.full(3 * n, 1 / 3)
    if not synthetic:
        return x, y, share
    # the fixed set comes first: three features of each of two classes, at half the weight
    actual = probe.stack.state["features"][r, :18].numpy()
    labels = task.synthetic_ids[r].repeat_interleave(3).numpy().repeat(3)
    return (
        np.concatenate([actual, x]),
        np.concatenate([labels, y]),
        np.concatenate([np.full(18, 0.5 / 3), share]),
    )


def rows_losses(logits: Array, y: Array, allowed: Array, share: Array) -> tuple[Array, Array]:
    """Return the losses of rows, and their gradient with respect to the logits."""
    odds = np.exp(logits) * allowed
    p = odds / odds.sum(1, keepdims=True)
    share = share / share.sum()
    return -share * np.log(p[np.arange(len(y)), y]), share[:, None] * (p - np.eye(4)[y])


@pytest.mark.parametrize("synthetic", [False, True])
def test_lp_plus_plus_equals_eleven_steps_by_hand(
    clip64: FrozenCLIP, features: FeatureSet, synthetic: bool
) -> None:
    """w has momentum; alpha changes only in the tenth step. Both rates follow the paper."""
    task = selection_task(clip64, features, SEEDS, shots=3)
    settings = {"alpha_scale": 20.0, "lr_scale": 0.25}
    probe = built("lp_plus_plus", settings, task, clip64, 0.5 if synthetic else None)
    start = probe.state_dict()
    losses = [probe.train_epoch()["loss"] for _ in range(11)]
    text = task.text_features.numpy()
    for r in range(2):
        x, y, share = rows(probe, task, r, synthetic=synthetic)
        allowed = np.array([True] * 4 if synthetic else task.seen[r].tolist())
        w = np.stack([(share[y == c, None] * x[y == c]).sum(0) for c in range(4)])
        class_means = [np.average(x[y == c] @ text[c], weights=share[y == c]) for c in np.unique(y)]
        alpha = np.full(4, 20 * np.mean(class_means))
        np.testing.assert_allclose(start["weight"][r].numpy(), w, atol=1e-12)
        np.testing.assert_allclose(start["alpha"][r].numpy(), alpha, atol=1e-10)
        p = share / share.sum()
        rate_w = 1 / np.linalg.eigvalsh((x * p[:, None]).T @ x)[-1]
        rate_alpha = 1 / (16 * (p @ (x @ text[allowed].T) ** 2).max())
        velocity = np.zeros_like(w)
        for step, reported in enumerate(losses, 1):
            loss, d = rows_losses(x @ (w + alpha[:, None] * text).T, y, allowed, share)
            assert reported[r].item() == pytest.approx(loss.sum(), abs=1e-9)
            velocity = 0.9 * velocity + d.T @ x
            w = w - rate_w * velocity
            if step == 10:
                alpha = alpha - rate_alpha * (d * (x @ text.T)).sum(0)
        np.testing.assert_allclose(probe.stack.state["weight"][r].detach().numpy(), w, atol=1e-8)
        np.testing.assert_allclose(probe.stack.state["alpha"][r].detach().numpy(), alpha, atol=1e-8)
        assert np.abs(alpha - start["alpha"][r].numpy()).max() > 1e-4
