"""PromptVAE: SHIP's generator, a VAE that decodes through CLIP's frozen text tower.

Source: arXiv:2307.07397, sec. 3.2, and the settings of the authors' code (VAE with one instance
bias added to L global context vectors). Every size is a parameter; all seeds are fused.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from ship.backbone import FrozenCLIP
from ship.prompts import ClassPrompts, class_prompts
from ship.replicas import BatchStream, ReplicaLinear, ReplicaRng, steps_per_epoch
from ship.settings import Settings
from ship.task import Task


class PromptVAEConfig(Settings):
    """SHIP's generator: a VAE whose decoder is a prompt through CLIP's frozen text tower."""

    name: Literal["vae"] = "vae"
    n_ctx: int = Field(4, ge=1, description="learned context vectors in the prompt (L)")
    latent_dim: int = Field(512, ge=1, description="size of z")
    encoder_hidden: int = Field(2048, ge=1, description="hidden units of q(z|x)")
    generator_hidden: int = Field(4096, ge=1, description="hidden units from z to the prompt bias")
    kl_weight: float = Field(1.0, ge=0, description="weight of the KL term; reference: 1")
    lr: float = Field(1e-3, gt=0, description="AdamW's learning rate")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay")
    epochs: int = Field(50, ge=1, description="passes over the base features")
    batch_size: int = Field(256, ge=1, description="features a step")


class PromptVAENetwork(nn.Module):
    """The trained parts: encoder q(z|x), generator z -> instance bias r, and L global contexts."""

    def __init__(
        self, config: PromptVAEConfig, feature_dim: int, text_width: int, rng: ReplicaRng
    ) -> None:
        super().__init__()
        self.hidden = ReplicaLinear(feature_dim, config.encoder_hidden, rng)
        self.mean = ReplicaLinear(config.encoder_hidden, config.latent_dim, rng)
        self.log_var = ReplicaLinear(config.encoder_hidden, config.latent_dim, rng)
        self.expand = ReplicaLinear(config.latent_dim, config.generator_hidden, rng)
        self.bias = ReplicaLinear(config.generator_hidden, text_width, rng)
        self.ctx = nn.Parameter(0.02 * rng.normal(config.n_ctx, text_width))

    def posterior(
        self, features: Float[Tensor, "replica n feature"]
    ) -> tuple[Float[Tensor, "replica n latent"], Float[Tensor, "replica n latent"]]:
        """Mean and ln sigma^2 of q(z|x)."""
        hidden = F.relu(self.hidden(features))
        return self.mean(hidden), self.log_var(hidden)

    def contexts(
        self, z: Float[Tensor, "replica n latent"]
    ) -> Float[Tensor, "replica n n_ctx width"]:
        """Each instance's context: the same bias r added to all L global vectors."""
        bias: Tensor = self.bias(F.relu(self.expand(z)))
        return self.ctx.unsqueeze(1) + bias.unsqueeze(2)


def vae_loss(
    reconstruction: Float[Tensor, "replica n feature"],
    feature: Float[Tensor, "replica n feature"],
    mean: Float[Tensor, "replica n latent"],
    log_var: Float[Tensor, "replica n latent"],
) -> tuple[Float[Tensor, " replica"], Float[Tensor, " replica"]]:
    """The two terms of SHIP's negative ELBO, up to constants (arXiv:2307.07397, sec. 3.2).

    Args:
        reconstruction, feature: unit-norm features.
        mean, log_var: posterior; log_var is ln sigma^2.

    Returns:
        Squared error, and KL(q(z|x) || N(0, I)) in nats: each summed over dimensions, averaged
        over the batch. The loss is squared error + kl_weight * KL.
    """
    squared_error = (reconstruction - feature).square().sum(-1).mean(-1)
    kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(-1).mean(-1)
    return squared_error, kl


class PromptVAE:
    """R fused prompt VAEs on the seen classes of a task."""

    def __init__(
        self, config: PromptVAEConfig, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> None:
        dtype = task.features.dtype
        self.config = config
        self._task = task
        self._tower = clip.text
        self._prompts: ClassPrompts = class_prompts(clip, task.class_names, config.n_ctx)
        weights = ReplicaRng(seeds, "vae/weights", clip.device, dtype)
        self.network = PromptVAENetwork(config, clip.feature_dim, clip.text_width, weights)
        self._noise = ReplicaRng(seeds, "vae/noise", clip.device, dtype)
        self._views = ReplicaRng(seeds, "vae/views", clip.device)
        self._batches = BatchStream(task.counts, ReplicaRng(seeds, "vae/batches"))
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        self._batch_size = min(config.batch_size, task.n_nominal)
        self._steps = steps_per_epoch(task.n_nominal, self._batch_size)

    @property
    def epochs(self) -> int:
        """Training epochs."""
        return self.config.epochs

    @property
    def finished(self) -> bool:
        """Whether every replica has stopped early: never."""
        return False

    def decode(
        self, z: Float[Tensor, "replica n latent"], class_ids: Int[Tensor, "replica n"]
    ) -> Float[Tensor, "replica n feature"]:
        """Unit-norm features of the prompts that z and the class names make."""
        ctx = self.network.contexts(z).flatten(0, 1)
        prompts, eot = self._prompts.assemble(ctx, class_ids.flatten())
        return self._tower.encode(prompts, eot).reshape(*z.shape[:2], -1)

    def terms(
        self,
        features: Float[Tensor, "replica n feature"],
        class_ids: Int[Tensor, "replica n"],
        noise: Float[Tensor, "replica n latent"],
    ) -> tuple[Float[Tensor, " replica"], Float[Tensor, " replica"]]:
        """Squared error and KL of a batch, the posterior sampled with the given noise."""
        mean, log_var = self.network.posterior(features)
        reconstruction = self.decode(mean + noise * (0.5 * log_var).exp(), class_ids)
        return vae_loss(reconstruction, features, mean, log_var)

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """One pass over the seen classes' features, a random view of each."""
        sums = self._task.features.new_zeros(2, self._task.n_replicas)
        for _ in range(self._steps):
            rows = self._batches.next(self._batch_size)
            features, class_ids = self._task.batch(rows, self._views)
            noise = self._noise.normal(self._batch_size, self.config.latent_dim)
            squared_error, kl = self.terms(features, class_ids, noise)
            self._optimizer.zero_grad(set_to_none=True)
            # summed over replicas, so that each one's gradient is that of its own mean loss
            (squared_error + self.config.kl_weight * kl).sum().backward()
            self._optimizer.step()
            sums += torch.stack([squared_error.detach(), kl.detach()])
        squared_error, kl = sums / self._steps
        loss = squared_error + self.config.kl_weight * kl
        return {"loss": loss, "reconstruction": squared_error, "kl": kl}

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """Synthetic features: z ~ N(0, I) through the prompt of the given classes."""
        return self.decode(rng.normal(class_ids.shape[1], self.config.latent_dim), class_ids)
