"""PromptVAE against a derivation of its own, in float64, by hand and with no torch autograd.

The parity test uses the reference code's sizes (features, text width and z 512, hidden 2048 and
4096, 4 contexts); the text tower, which is CLIP's and tested elsewhere, has one layer.
"""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ship.backbone import FrozenCLIP
from ship.features import FeatureSet
from ship.generators.prompt_vae import PromptVAE, PromptVAEConfig, vae_loss
from ship.protocols import base_to_new
from ship.replicas import ReplicaRng
from ship.task import Task
from ship.trial_config import TrialConfig
from tests.ship.conftest import WORDS, build_clip, build_features

Array = NDArray[np.float64]


def small_task(clip: FrozenCLIP, features: FeatureSet, seeds: list[int]) -> Task:
    """The final task of the tiny dataset in the backbone's precision."""
    return _final(TrialConfig(shots=3), clip, features, seeds)


def _final(config: TrialConfig, clip: FrozenCLIP, features: FeatureSet, seeds: list[int]) -> Task:
    protocol = base_to_new(config, seeds, features, clip, torch.float64)
    assert protocol.final is not None
    return protocol.final


class ByHand:
    """Forward and backward of the loss, written from the paper with numpy alone.

    The frozen text tower enters as a function from prompts to features with its vector-Jacobian
    product; everything that SHIP adds to it is derived here.
    """

    def __init__(self, vae: PromptVAE, replica: int) -> None:
        net = vae.network
        self.w = {
            name: value.detach()[replica].numpy().astype(np.float64)
            for name, value in net.named_parameters()
        }

    def affine(self, name: str, x: Array) -> Array:
        return x @ self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def forward(self, x: Array, noise: Array) -> None:
        self.x, self.noise = x, noise
        self.a = self.affine("hidden", x)
        self.h = np.maximum(self.a, 0)
        self.mu, self.lv = self.affine("mean", self.h), self.affine("log_var", self.h)
        self.sigma = np.exp(self.lv / 2)
        self.z = self.mu + self.sigma * noise
        self.b = self.affine("expand", self.z)
        self.g = np.maximum(self.b, 0)
        self.r = self.affine("bias", self.g)
        self.ctx = self.w["ctx"][None] + self.r[:, None]  # (n, L, width)

    def loss(self, x_hat: Array, kl_weight: float) -> float:
        n = len(self.x)
        error = ((x_hat - self.x) ** 2).sum() / n
        kl = -0.5 * (1 + self.lv - self.mu**2 - np.exp(self.lv)).sum() / n
        return float(error + kl_weight * kl)

    def backward(self, d_ctx: Array, kl_weight: float) -> dict[str, Array]:
        """Gradients of every weight, given the loss's gradient at the contexts."""
        n, out = len(self.x), {"ctx": d_ctx.sum(0)}

        def affine_back(name: str, x: Array, d: Array) -> Array:
            out[f"{name}.weight"] = x.T @ d
            out[f"{name}.bias"] = d.sum(0, keepdims=True)
            return d @ self.w[f"{name}.weight"].T

        d_g = affine_back("bias", self.g, d_ctx.sum(1))
        d_z = affine_back("expand", self.z, d_g * (self.b > 0))
        d_mu = d_z + kl_weight * self.mu / n
        d_lv = d_z * self.noise * self.sigma / 2 + kl_weight * (np.exp(self.lv) - 1) / (2 * n)
        d_h = affine_back("mean", self.h, d_mu) + affine_back("log_var", self.h, d_lv)
        affine_back("hidden", self.x, d_h * (self.a > 0))
        return out


def tower_by_open_clip(
    clip: FrozenCLIP, vae: PromptVAE, ctx: Array, ids: list[int], x: Array
) -> tuple[Array, Array]:
    """Features of untrimmed prompts by open_clip's own modules, and d error / d contexts."""
    model = clip._model
    rows = [
        [clip.tokenizer.sot_token_id, *[0] * ctx.shape[1], *clip.tokenizer.encode(WORDS[i] + ".")]
        for i in ids
    ]
    eot = torch.tensor([len(row) for row in rows])
    full = clip.context_length
    tokens = [row + [clip.tokenizer.eot_token_id] + [0] * (full - len(row) - 1) for row in rows]
    embedded = model.token_embedding(torch.tensor(tokens))
    leaf = torch.from_numpy(ctx).requires_grad_()
    prompts = torch.cat([embedded[:, :1], leaf, embedded[:, 1 + ctx.shape[1] :]], dim=1)
    hidden = model.transformer(prompts + model.positional_embedding, attn_mask=model.attn_mask)
    pooled = model.ln_final(hidden)[torch.arange(len(ids)), eot] @ model.text_projection
    x_hat = pooled / pooled.square().sum(1, keepdim=True).sqrt()
    error = (x_hat - torch.from_numpy(x)).square().sum() / len(ids)
    error.backward()
    assert leaf.grad is not None
    return x_hat.detach().numpy(), leaf.grad.numpy()


@pytest.mark.parametrize("kl_weight", [1.0, 0.01])
def test_loss_and_gradients_equal_a_derivation_by_hand(kl_weight: float) -> None:
    """For given weights, features and noise at the reference's sizes, to 1e-8."""
    clip64 = build_clip(torch.float64, feature=512, width=512, layers=1)
    features = build_features(clip64)
    config = PromptVAEConfig(kl_weight=kl_weight)  # 4 contexts, z 512, hidden 2048 and 4096
    vae = PromptVAE(config, small_task(clip64, features, [0, 1]), clip64, [0, 1])
    rng = np.random.default_rng(0)
    with torch.no_grad():  # larger weights than at the start, so that every term matters
        for value in vae.network.parameters():
            value.copy_(torch.from_numpy(0.03 * rng.standard_normal(value.shape)))
    x = rng.standard_normal((2, 5, 512))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    noise = rng.standard_normal((2, 5, 512))
    ids = torch.tensor([[0, 1, 2, 3, 4], [4, 4, 0, 6, 7]])
    error, kl = vae.terms(torch.from_numpy(x), ids, torch.from_numpy(noise))
    (error + kl_weight * kl).sum().backward()
    for replica in range(2):
        hand = ByHand(vae, replica)
        hand.forward(x[replica], noise[replica])
        made, d_ctx = tower_by_open_clip(clip64, vae, hand.ctx, ids[replica].tolist(), x[replica])
        ours = float((error + kl_weight * kl)[replica].detach())
        assert abs(ours - hand.loss(made, kl_weight)) < 1e-8
        expected = hand.backward(d_ctx, kl_weight)
        for name, value in vae.network.named_parameters():
            assert value.grad is not None
            np.testing.assert_allclose(
                value.grad[replica].numpy(), expected[name], atol=1e-8, rtol=0, err_msg=name
            )


def test_kl_is_zero_at_the_prior() -> None:
    """q = N(0, I) costs nothing; moving one mean by 2 costs 2 nats."""
    x = torch.zeros(1, 3, 4)
    mean = torch.zeros(1, 3, 5)
    assert vae_loss(x, x, mean, torch.zeros_like(mean))[1].item() == 0
    mean[:, :, 0] = 2
    assert vae_loss(x, x, mean, torch.zeros_like(mean))[1].item() == pytest.approx(2)


def test_training_lowers_the_loss(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """A few epochs reduce the squared error of every replica."""
    config = PromptVAEConfig(
        latent_dim=8, encoder_hidden=32, generator_hidden=32, lr=1e-2, kl_weight=1e-3
    )
    vae = PromptVAE(config, small_task(clip64, features, [0, 1]), clip64, [0, 1])
    losses = [vae.train_epoch()["reconstruction"] for _ in range(15)]
    assert bool((losses[-1] < 0.8 * losses[0]).all())


def test_samples_are_unit_norm_and_vary(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """Synthesis needs only class ids; other noise gives other features."""
    config = PromptVAEConfig(latent_dim=8, encoder_hidden=32, generator_hidden=32)
    vae = PromptVAE(config, small_task(clip64, features, [3]), clip64, [3])
    made = vae.sample(torch.tensor([[7, 7, 5]]), ReplicaRng([3], "test", dtype=torch.float64))
    torch.testing.assert_close(made.norm(dim=-1), torch.ones(1, 3, dtype=torch.float64))
    assert not torch.allclose(made[0, 0], made[0, 1])


def test_n_ctx_beyond_the_context_is_refused(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """The message has the largest n_ctx that fits."""
    config = PromptVAEConfig(n_ctx=22)
    with pytest.raises(ValueError, match="n_ctx must be at most 21"):
        PromptVAE(config, small_task(clip64, features, [0]), clip64, [0])
