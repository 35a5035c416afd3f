"""Losses of the generators; every term is one number a replica."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def kl_to_prior(
    mean: Float[Tensor, "replica n latent"], log_var: Float[Tensor, "replica n latent"]
) -> Float[Tensor, "replica n latent"]:
    """KL(q(z_j|x) || N(0, 1)) of every latent dimension, in nats; log_var is ln sigma^2."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)


def with_free_bits(
    kl: Float[Tensor, "replica latent"], free_bits: float
) -> Float[Tensor, " replica"]:
    """Sum over dimensions of max(free_bits, KL_j) (arXiv:1606.04934, sec. C.8).

    Args:
        kl: of each latent dimension, averaged over the batch, in nats.
        free_bits: nats that a dimension may use at no price, so that it has no gradient below them.
    """
    return kl.clamp(min=free_bits).sum(-1)


def vae_loss(
    reconstruction: Float[Tensor, "replica n feature"],
    feature: Float[Tensor, "replica n feature"],
    mean: Float[Tensor, "replica n latent"],
    log_var: Float[Tensor, "replica n latent"],
    free_bits: float = 0.0,
) -> tuple[Float[Tensor, " replica"], Float[Tensor, " replica"], Float[Tensor, " replica"]]:
    """The terms of SHIP's negative ELBO, up to constants (arXiv:2307.07397, sec. 3.2).

    Args:
        reconstruction, feature: unit-norm features.
        mean, log_var: posterior; log_var is ln sigma^2.
        free_bits: nats a latent dimension; 0: none.

    Returns:
        Squared error; KL(q(z|x) || N(0, I)) in nats, each summed over dimensions and averaged over
        the batch; and the KL as it is penalised (see with_free_bits). The loss is squared error +
        kl_weight * penalised KL.
    """
    squared_error = (reconstruction - feature).square().sum(-1).mean(-1)
    kl = kl_to_prior(mean, log_var)
    total = kl.sum(-1).mean(-1)
    penalised = total if free_bits == 0 else with_free_bits(kl.mean(1), free_bits)
    return squared_error, total, penalised


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Float[Tensor, "replica n feature"],
    made: Float[Tensor, "replica n feature"],
    mix: Float[Tensor, "replica n"],
) -> Float[Tensor, " replica"]:
    """Mean of (||d critic / d x|| - 1)^2 at x = mix * real + (1 - mix) * made (arXiv:1704.00028).

    Args:
        critic: features -> scores, (replica, n, feature) -> (replica, n), each row on its own.
        mix: uniform in [0, 1).

    Returns:
        The unweighted penalty, differentiable with respect to the critic's weights.
    """
    weight = mix.unsqueeze(-1)
    between = (weight * real + (1 - weight) * made).detach().requires_grad_()
    # the sum's gradient is each row's own, as no score depends on another row
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = (slope.norm(dim=-1) - 1).square().mean(-1)
    return penalty
