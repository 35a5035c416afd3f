"""Losses and gradients of the VAEs and the WGAN equal the papers' formulas."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.generators import PromptMode, WGANConfig
from ship.generators import GENERATORS, build_generator
from ship.generators.wgan import BatchedWGAN
from ship.seeds import BatchStream, SeedRng
from ship.state import strip_prefix
from ship.subsets import FeatureSet
from tests.case_files import load_cases
from tests.ship.by_hand import (
    Array,
    Weights,
    check_loss,
    cross_entropy,
    scatter,
    text_features,
    unit,
    unit_rows,
)
from tests.ship.conftest import WORDS, final_task

SEEDS = [0, 1]
IDS = np.array([[0, 1, 2, 3, 3], [2, 2, 0, 1, 3]])
N = IDS.shape[1]
HIDDEN = {"latent_dim": 6, "generator_hidden": 20}
VAE_HIDDEN: dict[str, Any] = {**HIDDEN, "encoder_hidden": 24}
WGAN_HIDDEN: dict[str, Any] = {**HIDDEN, "critic_hidden": 24}


def affine(w: Weights, layer: str, x: Array) -> Array:
    """Apply one layer."""
    return x @ w[f"{layer}.weight"] + w[f"{layer}.bias"]


def relu(x: Array) -> Array:
    """Clamp at 0."""
    return np.maximum(x, 0)


def prompted(
    clip: FrozenCLIP, w: Weights, z: Array, ids: Array, prompt: str, prefix: str = ""
) -> Array:
    """[SOT] (ctx_1 + r) ... (ctx_L + r) name . [EOT] through the tower (arXiv:2307.07397, 3.2)."""
    ctx, names = w[f"{prefix}ctx"], [WORDS[i] for i in ids]
    each = np.broadcast_to(ctx, (len(ids), *ctx.shape))
    if prompt == "global":
        return text_features(clip, each, names)
    r = affine(w, f"{prefix}bias", relu(affine(w, f"{prefix}expand", z)))
    if not len(ctx):
        return text_features(clip, each, names, on_names=r)
    bias = r.reshape(each.shape) if prompt == "instance_tokens" else r[:, None]
    return text_features(clip, each + bias, names)


def posterior(w: Weights, x: Array) -> tuple[Array, Array]:
    """Return mean and ln sigma^2 of q(z|x); empty without an encoder."""
    if "encoder.mean.weight" not in w:
        return np.zeros((len(x), 0)), np.zeros((len(x), 0))
    hidden = relu(affine(w, "encoder.hidden", x))
    return affine(w, "encoder.mean", hidden), affine(w, "encoder.log_var", hidden)


def nats(mean: Array, log_var: Array) -> Array:
    """Return the KL to N(0, 1) of each dimension, averaged over the rows."""
    return 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).mean(0)


VAES: dict[str, tuple[str, dict[str, Any]]] = load_cases(__file__, "formulas.yaml")["vaes"]


@pytest.mark.parametrize("case", VAES)
def test_vae_loss_and_gradient_equal_the_formula(
    case: str, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Squared error and KL with free bits; no KL if z is noise or absent."""
    name, settings = VAES[case]
    prompt = case if case in get_args(PromptMode) else "instance_bias"
    shown = {} if name == "mlp_vae" else {"prompt": prompt}
    task = final_task(clip64, features, SEEDS)
    config = GENERATORS[name](**{**VAE_HIDDEN, **shown, **settings})
    vae: Any = build_generator(config, task, clip64, SEEDS)
    parameters = vae.stack.trained
    scatter(parameters, 0.3)
    rng, encoded = np.random.default_rng(0), prompt not in ("global", "noise")
    x = unit_rows(rng, 2, N, 16)
    noise = rng.standard_normal((2, N, vae.prototype.noise_size))
    noise_tensor = torch.from_numpy(noise) if prompt != "global" else None
    result = vae.stack(
        "loss", torch.from_numpy(x), torch.from_numpy(IDS), noise_tensor, shared=(1,)
    )
    kl_weight, free_bits = vae.prototype.config.kl_weight, vae.prototype.config.free_bits

    def by_hand(r: int, w: Weights) -> float:
        mean, log_var = posterior(w, x[r])
        z = mean + np.exp(log_var / 2) * noise[r] if encoded else noise[r]
        if name == "mlp_vae":
            beside = np.concatenate([z, task.text_features.numpy()[IDS[r]]], axis=1)
            decoded = unit(affine(w, "decoder.feature", relu(affine(w, "decoder.hidden", beside))))
        else:
            decoded = prompted(clip64, w, z, IDS[r], prompt, "decoder.")
        price = np.maximum(nats(mean, log_var), free_bits).sum()
        return float(((decoded - x[r]) ** 2).sum() / N + kl_weight * price)

    check_loss(result["loss"], parameters, by_hand)
    for r in range(2 if encoded else 0):
        each = nats(*posterior({k: v.detach()[r].numpy() for k, v in parameters.items()}, x[r]))
        assert result["kl"][r].item() == pytest.approx(each.sum(), rel=1e-12)
        assert not free_bits or ((each < free_bits).any() and (each > free_bits).any())
    metric_names = {"loss", "reconstruction", *(("kl", "active_units") if encoded else ())}
    assert vae.train_epoch().keys() == metric_names


def wgan(clip: FrozenCLIP, features: FeatureSet, **settings: Any) -> BatchedWGAN:
    """A WGAN of two seeds."""
    config = WGANConfig(**{**WGAN_HIDDEN, **settings})
    return BatchedWGAN(config, final_task(clip, features, SEEDS), clip, SEEDS)


def texts_of(generator: BatchedWGAN) -> Tensor:
    """Return the zero-shot text features of the classes."""
    return generator._task.text_features


def networks(generator: BatchedWGAN) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the trained parameters of critic and generator by name."""
    return strip_prefix(generator.stack.trained, "critic"), strip_prefix(
        generator.stack.trained, "generator"
    )


def score(w: Weights, x: Array, text: Array) -> tuple[Array, Array]:
    """Return the critic's score and its gradient with respect to the features."""
    a = affine(w, "hidden", np.concatenate([x, text], axis=1))
    slope = np.where(a > 0, 1.0, 0.2)
    inner = slope * w["score.weight"][:, 0]
    return affine(w, "score", a * slope)[:, 0], inner @ w["hidden.weight"][: x.shape[1]].T


def test_critic_loss_equals_the_formula(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """Wasserstein estimate and gradient penalty (arXiv:1704.00028)."""
    generator = wgan(clip64, features)
    parameters, _ = networks(generator)
    scatter(parameters, 0.4)
    rng = np.random.default_rng(3)
    real, fake = unit_rows(rng, 2, N, 16), unit_rows(rng, 2, N, 16)
    mix, texts = rng.random((2, N)), texts_of(generator).numpy()[IDS]
    inputs = map(torch.from_numpy, (real, fake, IDS, mix))
    result = generator.stack("critic_loss", *inputs)

    def by_hand(r: int, w: Weights) -> float:
        between = mix[r][:, None] * real[r] + (1 - mix[r][:, None]) * fake[r]
        norms = np.linalg.norm(score(w, between, texts[r])[1], axis=1)
        gap = score(w, real[r], texts[r])[0].mean() - score(w, fake[r], texts[r])[0].mean()
        return float(10 * ((norms - 1) ** 2).mean() - gap)

    # the score's bias moves neither term
    moved = {name: value for name, value in parameters.items() if name != "score.bias"}
    bias = parameters["score.bias"].detach().numpy()
    check_loss(result["loss"], moved, lambda r, w: by_hand(r, {**w, "score.bias": bias[r]}))


@pytest.mark.parametrize("weight", [0.0, 0.3])
@pytest.mark.parametrize("prompt", ["instance_bias", "instance_tokens"])
def test_wgan_generator_loss_equals_the_formula(
    prompt: str, weight: float, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """-E[D(G(z))] and cross-entropy over the seen classes (arXiv:1712.00981)."""
    generator = wgan(clip64, features, prompt=prompt, n_ctx=3, classification_weight=weight)
    judging, parameters = networks(generator)
    scatter(judging, 0.4), scatter(parameters, 0.3)
    critic = {k: v.detach().numpy() for k, v in judging.items()}
    z = np.random.default_rng(5).standard_normal((2, N, 6))
    texts, allowed = texts_of(generator).numpy(), np.arange(8) < 4

    def by_hand(r: int, w: Weights) -> float:
        x = prompted(clip64, w, z[r], IDS[r], prompt)
        critic_weights = {name: value[r] for name, value in critic.items()}
        logits = clip64.logit_scale * x @ texts.T
        by_class = cross_entropy(logits, IDS[r].tolist(), allowed, np.ones(N))
        return float(weight * by_class - score(critic_weights, x, texts[IDS[r]])[0].mean())

    ids, noise = torch.from_numpy(IDS), torch.from_numpy(z)
    result = generator.stack("loss", texts_of(generator)[ids], ids, noise, shared=(1,))
    check_loss(result["loss"], parameters, by_hand)


def test_wgan_epoch_equals_algorithm_1(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """Replayed step by step with separate streams and optimizers."""
    generator, twin = (wgan(clip64, features, n_critic=2, batch_size=5, lr=0.01) for _ in range(2))
    task, metrics = generator._task, generator.train_epoch()
    batches = BatchStream(task.counts, 5, SEEDS, "wgan/batches")
    views, mixes = SeedRng(SEEDS, "wgan/views"), SeedRng(SEEDS, "wgan/mix")
    noise, pleasing = (
        SeedRng(SEEDS, f"wgan/{name}", dtype=torch.float64) for name in ("noise", "generator_noise")
    )
    critic_step, generator_step = (
        torch.optim.Adam(network.values(), lr=0.01, betas=(0.5, 0.9)) for network in networks(twin)
    )
    result = []
    for step in range(2):  # 8 images in batches of 5
        for number in (2 * step, 2 * step + 1):
            real, ids = task.batch(batches.at(number), views.at(number))
            fake = twin.stack("sample", ids, noise.at(number).normal(5, 6)).detach()
            mix = mixes.at(number).integers(2**24, 5).double() / 2**24
            result.append(twin.stack("critic_loss", real, fake, ids, mix))
            critic_step.zero_grad()
            result[-1]["loss"].sum().backward()
            critic_step.step()
        generator_step.zero_grad()
        z = pleasing.at(step).normal(5, 6)
        twin.stack("loss", real, ids, z, shared=(1,))["loss"].sum().backward()
        generator_step.step()
    for ours, theirs in (("critic_loss", "loss"), ("wasserstein", "wasserstein")):
        mean = torch.stack([epoch_metrics[theirs] for epoch_metrics in result]).mean(0).detach()
        torch.testing.assert_close(metrics[ours], mean)
    torch.testing.assert_close(generator.stack.trained, twin.stack.trained, atol=1e-12, rtol=0)
