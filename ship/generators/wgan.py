"""A Wasserstein GAN instead of the VAE, the alternative design that SHIP's paper mentions.

Sources: WGAN-GP (arXiv:1704.00028, algorithm 1) and f-CLSWGAN (arXiv:1712.00981), which applies it
to image features, conditioned on the class's attributes. Here the condition is the class's text
feature. f-CLSWGAN's classification loss is optional. The generator is the decoder of the prompt VAE
with z ~ N(0, I).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.generators import WGANConfig
from ship.generators.batched import BatchedGenerator
from ship.generators.vae import PromptDecoder
from ship.methods import Draw, Features, Generator, Labels, Linear, Noise, Rng
from ship.seeds import SeedRng
from ship.state import Part
from ship.tasks import SeedTask, Task


class Critic(nn.Module):
    """An MLP with one hidden LeakyReLU(0.2) layer from [feature, class text feature] to a score."""

    def __init__(self, n_in: int, hidden: int, rng: Rng) -> None:
        super().__init__()
        self.hidden = Linear(n_in, hidden, rng)
        self.score = Linear(hidden, 1, rng)

    def forward(
        self, features: Float[Tensor, "n feature"], text: Float[Tensor, "n text"]
    ) -> Float[Tensor, " n"]:
        """Return scores, which are higher for features that look real."""
        hidden = F.leaky_relu(_affine(self.hidden, torch.cat([features, text], dim=-1)), 0.2)
        return _affine(self.score, hidden).squeeze(-1)


def _affine(layer: Linear, x: Tensor) -> Tensor:
    """Apply a layer without its batched_over_seeds function, which torch.func.grad rejects."""
    return x @ layer.weight + layer.bias


class WGAN(Generator):
    """A generator and its critic.

    Attributes:
        generator: Prompt decoder from noise and class IDs to features.
        critic: Network that scores how real a feature of a class looks.
        seen: Mask of the seen classes, (n_cls,).

    Raises:
        ValueError: The contexts leave no room for a class name.
    """

    stream = "wgan"
    sampler = "generator"
    seen: Bool[Tensor, " n_cls"]

    def __init__(self, config: WGANConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        self.noise_size = config.latent_dim
        self.generator = PromptDecoder(config, clip, task.class_names, draw("wgan/generator"))
        n_in = clip.feature_dim + self.text.shape[1]
        self.critic = Critic(n_in, config.critic_hidden, draw("wgan/critic"))
        self.register_buffer("seen", task.seen, persistent=False)

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Return Adam. Each of the two networks has its own optimizer with these settings."""
        betas = (self.config.beta1, self.config.beta2)
        return torch.optim.Adam, {"lr": self.config.lr, "betas": betas}

    def critic_loss(
        self,
        real: Float[Tensor, "n feature"],
        synthetic: Float[Tensor, "n feature"],
        class_ids: Int[Tensor, " n"],
        mix: Float[Tensor, " n"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the critic's loss, gp_weight * penalty - (E[D(real)] - E[D(synthetic)]).

        The difference is the Wasserstein estimate. The penalty is the mean of (||d D / d x|| - 1)^2
        at interpolates x between real and synthetic features. They are not normalized, so they are
        inside the unit sphere.

        Args:
            real: Features of images.
            synthetic: Synthetic features of the same classes.
            class_ids: Class of each pair, an index into the task's classes.
            mix: Share of the real feature in each interpolate, uniform in [0, 1).
        """
        text, share = self.text[class_ids], mix.unsqueeze(-1)
        estimate = (self.critic(real, text) - self.critic(synthetic, text)).mean()
        # Scores do not depend on other rows, so each row of this is the gradient of its own score.
        slope = torch.func.grad(lambda x: self.critic(x, text).sum())(
            share * real + (1 - share) * synthetic
        )
        penalty = (slope.norm(dim=-1) - 1).square().mean()
        loss = self.config.gp_weight * penalty - estimate
        return {"loss": loss, "wasserstein": estimate, "gradient_penalty": penalty}

    def loss(
        self, features: Features, labels: Labels, noise: Noise, epoch: float
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the generator's loss, -E[D(synthetic)] + classification_weight * cross-entropy.

        The cross-entropy is that of zero-shot CLIP on synthetic features, over the seen classes.
        """
        synthetic = self.sample(labels, noise)
        loss = -self.critic(synthetic, self.text[labels]).mean()
        if self.config.classification_weight:
            logits = self.zero_shot(synthetic).masked_fill(~self.seen, -torch.inf)
            log_p = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
            loss = loss - self.config.classification_weight * log_p.mean()
        return {"loss": loss}

    def sample(self, class_ids: Labels, noise: Noise) -> Features:
        """Decode the noise, z ~ N(0, I), for the classes."""
        features: Tensor = self.generator(noise, class_ids)
        return features


class BatchedWGAN(BatchedGenerator):
    """The WGANs of all seeds, with n_critic steps of the critic before each generator step.

    An epoch has as many generator steps as a pass over the features has batches. Its metrics are
    critic_loss, wasserstein (the estimate) and gradient_penalty (unweighted), averaged over the
    critic's steps, and generator_loss, averaged over the generator's steps.
    """

    _trained_module = "generator"

    def __init__(
        self, config: WGANConfig, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> None:
        super().__init__(WGAN, config, task, clip, seeds)
        self._n_critic = config.n_critic
        device, dtype = task.features.device, task.features.dtype
        self._mix = SeedRng(seeds, "wgan/mix", device)
        self._generator_noise = SeedRng(seeds, "wgan/generator_noise", device, dtype)
        self._critic_optimizer = self.stack.optimizer("critic")

    def _train_step(self, step: int) -> dict[str, Float[Tensor, " seed"]]:
        """Take the critic's steps and one generator step, and return their values by name.

        A critic step uses real features and as many synthetic ones of the same classes. The
        generator step uses the classes of the last critic step. It also adds gradients to the
        critic, which are reset before the critic's next step.
        """
        sums: dict[str, Tensor] = {}
        for number in range(step * self._n_critic, (step + 1) * self._n_critic):
            real, class_ids, z = self._batch(number)
            # 24 random bits: uniform in [0, 1) in any precision
            mix = self._mix.at(number).integers(2**24, self._batch_size).to(real.dtype) / 2**24
            with torch.no_grad():
                synthetic = self.stack("sample", class_ids, z)
            inputs = (real, synthetic, class_ids, mix)
            for name, value in self._step("critic_loss", self._critic_optimizer, *inputs).items():
                sums[name] = sums.get(name, 0) + value / self._n_critic
        z = self._draw_noise(self._batch_size, self._generator_noise.at(step))
        epoch = step // self.steps + 1
        loss = self._step("loss", self._optimizer, real, class_ids, z, shared=[epoch])
        return {"critic_loss": sums.pop("loss"), **sums, "generator_loss": loss["loss"]}

    def parts(self) -> Mapping[str, Part]:
        """Return both networks and their optimizers, for a checkpoint."""
        return {**super().parts(), "critic_optimizer": self._critic_optimizer}
