"""Forward and backward passes of the generators' parts, from the papers, with numpy alone.

The frozen text tower enters as a function from prompts to features with its vector-Jacobian
product, by open_clip's own modules on untrimmed prompts; all else is derived here.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ship.clip.frozen_clip import FrozenCLIP
from tests.ship.conftest import WORDS

Array = NDArray[np.float64]


class Layers:
    """One replica's weights of a network, and their gradients as they are found."""

    def __init__(self, network: nn.Module, replica: int) -> None:
        self.w = {
            name: value.detach()[replica].numpy().copy()
            for name, value in network.named_parameters()
        }
        self.grad: dict[str, Array] = {}

    def affine(self, name: str, x: Array) -> Array:
        return x @ self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def affine_back(self, name: str, x: Array, d: Array) -> Array:
        self.grad[f"{name}.weight"] = x.T @ d
        self.grad[f"{name}.bias"] = d.sum(0, keepdims=True)
        return d @ self.w[f"{name}.weight"].T

    def check(self, network: nn.Module, replica: int, atol: float) -> None:
        """Every parameter's gradient equals the one derived here."""
        for name, value in network.named_parameters():
            assert value.grad is not None
            ours = value.grad[replica].numpy()
            np.testing.assert_allclose(ours, self.grad[name], atol=atol, rtol=0, err_msg=name)


class EncoderByHand:
    """q(z|x), its KL to N(0, I), and z = mean + sigma * noise."""

    def __init__(self, layers: Layers, prefix: str = "encoder.") -> None:
        self.layers, self.prefix = layers, prefix

    def forward(self, x: Array, noise: Array) -> Array:
        self.x, self.noise = x, noise
        self.a = self.layers.affine(f"{self.prefix}hidden", x)
        self.h = np.maximum(self.a, 0)
        self.mu = self.layers.affine(f"{self.prefix}mean", self.h)
        self.lv = self.layers.affine(f"{self.prefix}log_var", self.h)
        self.sigma = np.exp(self.lv / 2)
        return self.mu + self.sigma * noise

    def kl_by_dimension(self) -> Array:
        return -0.5 * (1 + self.lv - self.mu**2 - np.exp(self.lv)).mean(0)

    def backward(self, d_z: Array, kl_weight: float, free_bits: float = 0.0) -> None:
        weight = kl_weight * (self.kl_by_dimension() >= free_bits) / len(self.x)
        d_mu = d_z + weight * self.mu
        d_lv = d_z * self.noise * self.sigma / 2 + weight * (np.exp(self.lv) - 1) / 2
        d_h = self.layers.affine_back(f"{self.prefix}mean", self.h, d_mu)
        d_h = d_h + self.layers.affine_back(f"{self.prefix}log_var", self.h, d_lv)
        self.layers.affine_back(f"{self.prefix}hidden", self.x, d_h * (self.a > 0))


class PromptByHand:
    """z -> context vectors: one vector for all of them, or one each."""

    def __init__(self, layers: Layers, prefix: str, tokens: bool) -> None:
        self.layers, self.prefix, self.tokens = layers, prefix, tokens

    def forward(self, z: Array) -> Array:
        """(n, L, width)."""
        ctx = self.layers.w[f"{self.prefix}ctx"]
        self.z = z
        self.b = self.layers.affine(f"{self.prefix}expand", z)
        self.g = np.maximum(self.b, 0)
        r = self.layers.affine(f"{self.prefix}bias", self.g)
        if self.tokens:
            return ctx[None] + r.reshape(len(z), *ctx.shape)
        return ctx[None] + r[:, None]

    def backward(self, d_ctx: Array) -> Array:
        """The gradient at z."""
        self.layers.grad[f"{self.prefix}ctx"] = d_ctx.sum(0)
        d_r = d_ctx.reshape(len(d_ctx), -1) if self.tokens else d_ctx.sum(1)
        d_g = self.layers.affine_back(f"{self.prefix}bias", self.g, d_r)
        return self.layers.affine_back(f"{self.prefix}expand", self.z, d_g * (self.b > 0))


def tower_by_open_clip(
    clip: FrozenCLIP, ctx: Array, ids: list[int]
) -> tuple[Array, Callable[[Array], Array]]:
    """Unit-norm features of whole prompts, and the map from their gradient to the contexts'."""
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
    made: Tensor = pooled / pooled.square().sum(1, keepdim=True).sqrt()

    def backward(d_made: Array) -> Array:
        (d_ctx,) = torch.autograd.grad(made, leaf, torch.from_numpy(d_made))
        return d_ctx.numpy()

    return made.detach().numpy(), backward


def unit_rows(rng: np.random.Generator, *shape: int) -> Array:
    """Random features of norm 1."""
    x = rng.standard_normal(shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def fill(network: nn.Module, rng: np.random.Generator, std: float) -> None:
    """Larger weights than at the start, biases too, so that every term matters."""
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.from_numpy(std * rng.standard_normal(value.shape)))
