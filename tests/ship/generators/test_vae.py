"""Training of VAEs: start, KL weight, active units, early stopping and prompts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.generators import PromptVAEConfig
from ship.generators import GENERATORS, build_generator
from ship.generators.batched import BatchedGenerator
from ship.generators.vae import VAE
from ship.seeds import SeedRng
from ship.state import strip_prefix
from ship.subsets import FeatureSet
from ship.tasks import Images, Task
from tests.case_files import load_cases
from tests.ship.generators.cases import VAE as SMALL
from tests.ship.generators.cases import uneven_task

SEEDS = [0, 2, 7]


@pytest.fixture(scope="module")
def task(clip64: FrozenCLIP, features: FeatureSet) -> Task:
    """Seeds that differ in seen classes and in their numbers of images."""
    return uneven_task(clip64, features, SEEDS)


def build(
    clip: FrozenCLIP, task: Task, seeds: list[int] = SEEDS, name: str = "mlp_vae", **settings: Any
) -> BatchedGenerator:
    """Build the VAE with the MLP decoder, which is faster; both are trained alike."""
    actual = build_generator(GENERATORS[name](**{**SMALL, **settings}), task, clip, seeds)
    assert isinstance(actual, BatchedGenerator)
    return actual


def test_both_vaes_start_from_the_same_encoder(clip64: FrozenCLIP, task: Task) -> None:
    """A comparison of the two compares only decoders."""
    ours, theirs = (
        strip_prefix(build(clip64, task, name=name).stack.trained, "encoder")
        for name in ("vae", "mlp_vae")
    )
    assert len(ours) == 6
    torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


def test_kl_weight_grows_linearly_during_warm_up(clip64: FrozenCLIP, task: Task) -> None:
    """It is 0 in the first epoch; the reported KL has no free bits."""
    settings = {"kl_weight": 0.8, "free_bits": 0.5}
    warm, free = build(clip64, task, **settings, kl_warmup=4), build(clip64, task, kl_weight=0.0)
    for epoch, weight in enumerate([0, 0.2, 0.4, 0.6, 0.8, 0.8], 1):
        metrics = warm.train_epoch()
        expected = metrics["reconstruction"] + weight * 4 * 0.5
        torch.testing.assert_close(metrics["loss"], expected, atol=1e-12, rtol=0)
        assert bool((metrics["kl"] < 4 * 0.5).all())
        if epoch == 1:
            theirs = free.train_epoch()
            assert all(torch.equal(metrics[name], theirs[name]) for name in metrics)
    plain = build(clip64, task, kl_weight=0.8).prototype
    assert isinstance(plain, VAE) and [plain.kl_weight(e) for e in (1, 2)] == [0.8, 0.8]


def test_active_units_are_counted_over_each_seeds_images(clip64: FrozenCLIP, task: Task) -> None:
    """Variance of the posterior mean over un-augmented images > 0.01, without padding."""
    vae = build(clip64, task, latent_dim=30, lr=1e-12, weight_decay=0.0)
    with torch.no_grad():
        for value in vae.stack.trained.values():
            value.copy_(0.4 * SeedRng(SEEDS, "w", dtype=value.dtype).normal(*value.shape[1:]))
    result = vae.train_epoch()["active_units"]
    expected = []
    for r, count in enumerate(task.counts):
        means = vae.stack("encoder", task.features[:, :, 0])[0][r, :count].detach().numpy()
        expected.append(int((means.var(0) > 0.01).sum()))
    assert result.tolist() == expected and 0 < min(expected) < max(expected) < 30
    fresh = build(clip64, task, lr=1e-12).train_epoch()["active_units"]
    assert fresh.tolist() == [0, 0, 0]  # weights of N(0, 0.02) hardly move the mean


EARLY = {"lr": 0.1, "epochs": 12}


def held_out_loss(vae: BatchedGenerator, task: Task, seed: int) -> float:
    """Compute the held-out ELBO of a solo run, from the rows without padding."""
    (images,) = task.load_validation()
    x = images.features[None]
    noise = SeedRng([seed], "vae/held_out", dtype=x.dtype).normal(x.shape[1], 4)
    mean, log_var = vae.stack("encoder", x)
    z = mean + noise * (0.5 * log_var).exp()
    actual = vae.stack("decoder", z, images.labels[None])
    kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var)
    result: float = (((actual - x) ** 2).sum(-1).mean() + kl.sum(-1).mean()).item()
    return result  # kl_weight is 1


@pytest.mark.parametrize(("patience", "warmup"), [(1, 0), (3, 0), (1, 4)])
def test_early_stopping_keeps_the_best_epoch_of_each_seed(
    patience: int, warmup: int, clip64: FrozenCLIP, features: FeatureSet, task: Task
) -> None:
    """Equal to watched runs of one seed; a stopped seed reports its best epoch."""
    settings = {**EARLY, "kl_warmup": warmup}
    fused = build(clip64, task, **settings, early_stopping=patience)
    curve, held_out = [], []
    while not fused.finished and len(curve) < 12:
        curve.append(fused.train_epoch())
        held_out.append({k: v.detach().clone() for k, v in fused.stack.trained.items()})
    lengths = []
    for seed_index, seed in enumerate(SEEDS):
        alone = uneven_task(clip64, features, [seed])
        watched = build(clip64, alone, [seed], **settings)
        losses: list[float] = []
        states: list[dict[str, Tensor]] = []
        units: list[float] = []
        while len(losses) < 12:
            units.append(watched.train_epoch()["active_units"].item())
            losses.append(held_out_loss(watched, alone, seed))
            states.append({k: v.detach().clone() for k, v in watched.stack.trained.items()})
            if len(losses) - max(1 + int(np.argmin(losses)), warmup) >= patience:
                break
        best, running = int(np.argmin(losses)), len(losses) - 1
        lengths.append(len(losses))
        for epoch in held_out[running:]:
            for name, value in epoch.items():
                torch.testing.assert_close(
                    value[seed_index], states[best][name][0], atol=1e-9, rtol=0
                )
        for name, expected in (("held_out_loss", losses), ("active_units", units)):
            ours = [epoch[name][seed_index].item() for epoch in curve]
            assert ours[:running] == pytest.approx(expected[:running], abs=1e-9)
            assert ours[running:] == pytest.approx([expected[best]] * (len(ours) - running))
    assert len(curve) == max(lengths) > min(lengths)


def test_early_stopping_without_validation_images_is_rejected(
    clip64: FrozenCLIP, task: Task
) -> None:
    """The message has the requirement and the seeds."""
    first, *other_images = task.load_validation()
    none = [Images(images.features[:0], images.labels[:0]) for images in other_images]
    without = replace(task, load_validation=lambda: [first, *none])
    with pytest.raises(ValueError, match=r"early_stopping requires validation images.*\[2, 7\]"):
        build(clip64, without, early_stopping=3)
    build(clip64, without)


@pytest.mark.parametrize(("settings", "sentence"), load_cases(__file__, "formulas.yaml")["fixed"])
def test_fixed_prompt_samples_are_the_sentences_features(
    settings: dict[str, Any], sentence: str, clip64: FrozenCLIP, task: Task
) -> None:
    """Nothing is fitted, and n_ctx follows from the words."""
    vae = build(clip64, task, name="vae", prompt="fixed", **settings)
    assert vae.epochs == 0 and vae.finished and vae.train_epoch() == {}
    ids = torch.tensor([[2, 0, 2], [1, 3, 0], [3, 3, 1]])
    expected = clip64.encode_texts([sentence.format(name) for name in task.class_names])
    actual = vae.sample(ids, SeedRng(SEEDS, "noise"))
    torch.testing.assert_close(actual, expected[ids], atol=1e-12, rtol=0)


def test_unsuitable_n_ctx_is_rejected(clip64: FrozenCLIP, task: Task) -> None:
    """The message has the largest n_ctx; instance_tokens needs at least one context."""
    with pytest.raises(ValueError, match="n_ctx must be at most 21"):
        build(clip64, task, name="vae", n_ctx=22)
    for prompt in ("instance_tokens", "global"):
        with pytest.raises(ValueError, match=f"n_ctx must be at least 1 when prompt is {prompt}"):
            PromptVAEConfig.model_validate({"prompt": prompt, "n_ctx": 0})
