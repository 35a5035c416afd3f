"""How VAEs are trained: KL weight by epoch, free bits, active units, early stopping."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.generators.losses import vae_loss
from ship.generators.mlp_vae import MlpVAEConfig, build_mlp_vae
from ship.generators.prompt_vae import PromptVAEConfig
from ship.generators.vae import VAE
from ship.tasks.task import Task
from ship.training.replicas import ReplicaRng
from tests.ship.generators.cases import VAE as SMALL
from tests.ship.generators.cases import uneven_task

SEEDS = [0, 2, 7]


@pytest.fixture(scope="module")
def task(clip64: FrozenCLIP, features: FeatureSet) -> Task:
    """Replicas that differ in seen classes and in how many pictures they have."""
    return uneven_task(clip64, features, SEEDS)


def build(clip: FrozenCLIP, task: Task, seeds: list[int] = SEEDS, **settings: Any) -> VAE:
    """The VAE with the MLP decoder, which is fast; what is tested here is the same for both."""
    return build_mlp_vae(MlpVAEConfig(**{**SMALL, **settings}), task, clip, seeds)


def gradients(vae: VAE, task: Task, free_bits: bool) -> dict[str, Tensor | None]:
    """Of squared error + kl_weight * KL as penalised, or of squared error alone."""
    noise = torch.randn(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(4).expand(3, -1)
    batch = task.features[:, rows[0], 0], task.labels[:, rows[0]]
    error, _, penalised = vae.terms(*batch, noise)
    vae.network.zero_grad()
    (error + vae.config.kl_weight * penalised if free_bits else error).sum().backward()
    return {name: value.grad for name, value in vae.network.named_parameters()}


@pytest.mark.parametrize("settings", [{"kl_weight": 0.0}, {"free_bits": 50.0}], ids=str)
def test_no_gradient_from_a_kl_that_costs_nothing(
    settings: dict[str, float], clip64: FrozenCLIP, task: Task
) -> None:
    """Weight 0, or free bits above every dimension's KL: the gradient is the squared error's."""
    vae = build(clip64, task, **settings)
    with_kl, without = gradients(vae, task, True), gradients(vae, task, False)
    for name, value in without.items():
        assert value is not None and torch.equal(value, with_kl[name])
    charged = gradients(build(clip64, task), task, True)["encoder.log_var.bias"]
    assert charged is not None and not torch.equal(charged, with_kl["encoder.log_var.bias"])


def test_kl_is_zero_at_the_prior() -> None:
    """q = N(0, I) costs nothing; moving one mean by 2 costs 2 nats, whatever bits are free."""
    x, mean = torch.zeros(1, 3, 4), torch.zeros(1, 3, 5)
    assert vae_loss(x, x, mean, torch.zeros_like(mean))[1].item() == 0
    mean[:, :, 0] = 2
    for free_bits in (0.0, 0.5):
        _, kl, penalised = vae_loss(x, x, mean, torch.zeros_like(mean), free_bits)
        assert kl.item() == pytest.approx(2)
        assert penalised.item() == pytest.approx(2 + 4 * free_bits)


def test_free_bits_are_of_the_batch_mean_of_each_dimension() -> None:
    """Rows at 0 and 2 nats average to 1: above 0.9 free nats, although half the rows are not."""
    x, mean = torch.zeros(1, 2, 4), torch.zeros(1, 2, 1)
    mean[0, 1] = 2
    mean.requires_grad_()
    penalised = vae_loss(x, x, mean, torch.zeros_like(mean), 0.9)[2]
    penalised.sum().backward()
    assert penalised.item() == pytest.approx(1) and mean.grad is not None
    assert mean.grad.flatten().tolist() == [0, 1]  # mu / n


def test_kl_weight_grows_linearly_in_the_warm_up(clip64: FrozenCLIP, task: Task) -> None:
    """0 in the first epoch, kl_weight from the one behind the warm-up on; without one, always."""
    vae = build(clip64, task, kl_weight=0.8, kl_warmup=4)
    assert [vae.kl_weight(e) for e in range(1, 8)] == pytest.approx([0, 0.2, 0.4, 0.6, *[0.8] * 3])
    assert [build(clip64, task, kl_weight=0.8).kl_weight(e) for e in (1, 2)] == [0.8, 0.8]
    for epoch in range(1, 7):
        metrics = vae.train_epoch()
        expected = metrics["reconstruction"] + vae.kl_weight(epoch) * metrics["kl"]
        torch.testing.assert_close(metrics["loss"], expected, atol=1e-12, rtol=0)


def test_warm_up_starts_as_without_kl_and_then_departs(clip64: FrozenCLIP, task: Task) -> None:
    """The first epoch is that of kl_weight 0, bit for bit; the second is not."""
    warm, free = build(clip64, task, kl_warmup=2), build(clip64, task, kl_weight=0.0)
    ours, theirs = warm.train_epoch(), free.train_epoch()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for (name, value), other in zip(
        warm.network.named_parameters(), free.network.parameters(), strict=True
    ):
        assert torch.equal(value, other), name
    warm.train_epoch(), free.train_epoch()
    assert not torch.equal(warm.network.encoder.mean.weight, free.network.encoder.mean.weight)


def test_reported_kl_is_the_true_one(clip64: FrozenCLIP, task: Task) -> None:
    """Free bits are in the loss, not in the curve of the KL."""
    metrics = build(clip64, task, free_bits=0.5).train_epoch()
    assert bool((metrics["kl"] < 4 * 0.5).all())
    expected = metrics["reconstruction"] + 4 * 0.5  # every dimension below its free bits
    torch.testing.assert_close(metrics["loss"], expected, atol=1e-12, rtol=0)


def test_active_units_are_counted_over_each_replicas_own_pictures(
    clip64: FrozenCLIP, task: Task
) -> None:
    """Variance of the posterior mean over un-augmented pictures > 0.01, by numpy; no padding."""
    vae = build(clip64, task, latent_dim=30, lr=1e-12, weight_decay=0.0)
    with torch.no_grad():
        for value in vae.network.parameters():
            value.copy_(0.4 * ReplicaRng(SEEDS, "w", dtype=value.dtype).normal(*value.shape[1:]))
    found = vae.train_epoch()["active_units"]
    assert vae.network.encoder is not None
    expected = []
    for r, count in enumerate(task.counts):
        means = vae.network.encoder(task.features[:, :, 0])[0][r, :count].detach().numpy()
        expected.append(int((means.var(0) > 0.01).sum()))
    assert found.tolist() == expected and 0 < min(expected) < max(expected) < 30
    fresh = build(clip64, task, lr=1e-12).train_epoch()["active_units"]
    assert fresh.tolist() == [0, 0, 0]  # weights of N(0, 0.02) hardly move the mean


EARLY = {"lr": 0.1, "epochs": 12}


def held_out_loss(vae: VAE, task: Task, seed: int) -> float:
    """The held-out ELBO of a solo run, from the real rows alone, by numpy."""
    count = task.held_out_counts[0]
    x = task.held_out[:, :count]
    noise = ReplicaRng([seed], "vae/held_out", dtype=x.dtype).normal(count, 4)
    made, mean, log_var = (
        part.detach().numpy() for part in vae.network(x, task.held_out_labels[:, :count], noise)
    )
    kl = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var)
    return float(
        ((made - x.numpy()) ** 2).sum(-1).mean() + vae.config.kl_weight * kl.sum(-1).mean()
    )


@pytest.mark.parametrize(("patience", "warmup"), [(1, 0), (3, 0), (1, 4)])
def test_early_stopping_keeps_the_best_epoch_of_each_replica(
    patience: int, warmup: int, clip64: FrozenCLIP, features: FeatureSet, task: Task
) -> None:
    """Against a run without it that is watched from outside; alone and fused."""
    settings = {**EARLY, "kl_warmup": warmup}
    fused = build(clip64, task, **settings, early_stopping=patience)
    curve = []
    while not fused.finished and len(curve) < 12:
        curve.append(fused.train_epoch()["held_out_loss"])
    lengths = []
    for replica, seed in enumerate(SEEDS):
        alone = uneven_task(clip64, features, [seed])
        watched = build(clip64, alone, [seed], **settings)
        losses: list[float] = []
        states: list[dict[str, Tensor]] = []
        while len(losses) < 12:
            watched.train_epoch()
            losses.append(held_out_loss(watched, alone, seed))
            states.append({k: v.detach().clone() for k, v in watched.network.named_parameters()})
            if len(losses) - max(1 + int(np.argmin(losses)), warmup) >= patience:
                break
        best = states[int(np.argmin(losses))]
        lengths.append(len(losses))
        for name, value in fused.network.named_parameters():
            torch.testing.assert_close(value[replica], best[name][0], atol=1e-9, rtol=0)
        ours = [epoch[replica].item() for epoch in curve]
        running = len(losses) - 1  # from its last epoch on it reports what it keeps
        assert ours[:running] == pytest.approx(losses[:running], abs=1e-9)
        assert ours[running:] == pytest.approx([min(losses)] * (len(ours) - running))
    assert len(curve) == max(lengths)


@pytest.mark.parametrize("patience", [1, 3])
def test_what_is_reported_last_is_of_the_kept_parameters(
    patience: int, clip64: FrozenCLIP, features: FeatureSet, task: Task
) -> None:
    """Active units and losses at the end are the same alone and beside seeds that train longer."""
    fused = build(clip64, task, **EARLY, early_stopping=patience)
    last: dict[str, Tensor] = {}
    while not fused.finished and fused._done.value < fused.epochs:
        last = fused.train_epoch()
    for replica, seed in enumerate(SEEDS):
        solo = build(
            clip64, uneven_task(clip64, features, [seed]), [seed], **EARLY, early_stopping=patience
        )
        alone: dict[str, Tensor] = {}
        while not solo.finished and solo._done.value < solo.epochs:
            alone = solo.train_epoch()
        for name, value in alone.items():
            assert last[name][replica].item() == pytest.approx(value[0].item(), abs=1e-9), name
        encoder = fused.network.encoder
        assert encoder is not None
        assert last["active_units"][replica] == fused._active_units(encoder)[replica]


def test_a_stopped_replica_samples_from_what_it_keeps(
    clip64: FrozenCLIP, features: FeatureSet, task: Task
) -> None:
    """Also while the others still train."""
    fused = build(clip64, task, **EARLY, early_stopping=1)
    solos = [
        build(clip64, uneven_task(clip64, features, [s]), [s], **EARLY, early_stopping=1)
        for s in SEEDS
    ]
    compared = 0
    for _ in range(12):
        if fused.finished:
            break
        fused.train_epoch()
        made = fused.sample(task.unseen_ids, ReplicaRng(SEEDS, "n", dtype=torch.float64))
        for replica, (seed, solo) in enumerate(zip(SEEDS, solos, strict=True)):
            compared += solo.finished
            if not solo.finished:
                solo.train_epoch()
            theirs = solo.sample(
                task.unseen_ids[replica : replica + 1], ReplicaRng([seed], "n", dtype=torch.float64)
            )
            torch.testing.assert_close(made[replica], theirs[0], atol=1e-9, rtol=0)
    assert compared > 0


def test_early_stopping_without_validation_pictures_is_refused(
    clip64: FrozenCLIP, task: Task
) -> None:
    """The message says what is needed and which seeds lack it."""
    without = replace(task, held_out_counts=(4, 0, 0))
    with pytest.raises(ValueError, match=r"early_stopping needs validation pictures.*\[2, 7\]"):
        build(clip64, without, early_stopping=3)
    build(clip64, without)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", "words"),
        ("ctx_init", ""),
        ("name_position", "back"),
        ("kl_warmup", -1),
        ("free_bits", -0.1),
        ("early_stopping", 0),
    ],
)
def test_settings_out_of_bounds_are_refused(field: str, value: Any) -> None:
    """Bounds stand at the fields."""
    with pytest.raises(ValidationError, match=field):
        PromptVAEConfig(**{field: value})
