"""A Wasserstein GAN in place of the VAE: the design trade-off that SHIP's paper names.

Sources: WGAN-GP (arXiv:1704.00028, algorithm 1) on features given the class, as f-CLSWGAN does it
with attributes (arXiv:1712.00981), here with the class's text feature; its classification
loss is an option. The generator is the prompt VAE's, its z N(0, I).
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs import WGANConfig
from ship.generators.losses import gradient_penalty
from ship.generators.prompt_network import PromptGenerator
from ship.tasks import Task
from ship.training import (
    BatchStream,
    Part,
    ReplicaLinear,
    ReplicaOptimizer,
    ReplicaRng,
    steps_per_epoch,
)


class Critic(nn.Module):
    """R critics: [feature, class text feature] -> hidden LeakyReLU(0.2) units -> a score."""

    def __init__(self, feature_dim: int, text_dim: int, hidden: int, rng: ReplicaRng) -> None:
        super().__init__()
        self.hidden = ReplicaLinear(feature_dim + text_dim, hidden, rng)
        self.score = ReplicaLinear(hidden, 1, rng)

    def forward(
        self, features: Float[Tensor, "replica n feature"], text: Float[Tensor, "replica n text"]
    ) -> Float[Tensor, "replica n"]:
        """Scores, higher for features that look real."""
        hidden = F.leaky_relu(self.hidden(torch.cat([features, text], dim=-1)), 0.2)
        scores: Tensor = self.score(hidden)
        return scores.squeeze(-1)


class WGAN:
    """R fused WGANs on the seen classes of a task; it trains `generator` and `critic`.

    Raises:
        ValueError: contexts too long for the backbone.
    """

    finished = False

    def __init__(
        self,
        config: WGANConfig,
        task: Task,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        device, dtype = clip.device, task.features.dtype
        self.config = config
        self._task = task
        self.generator = PromptGenerator(
            config, clip, task.class_names, ReplicaRng(seeds, "wgan/generator", device, dtype)
        )
        text_dim = task.text_features.shape[1]
        weights = ReplicaRng(seeds, "wgan/critic", device, dtype)
        self.critic = Critic(clip.feature_dim, text_dim, config.critic_hidden, weights)
        self._noise = ReplicaRng(seeds, "wgan/noise", device, dtype)
        self._mix = ReplicaRng(seeds, "wgan/mix", device)
        self._views = ReplicaRng(seeds, "wgan/views", device)
        self._batches = BatchStream(task.counts, ReplicaRng(seeds, "wgan/batches"))
        self._generator_step = self._adam(self.generator)
        self._critic_step = self._adam(self.critic)
        self._batch_size = min(config.batch_size, task.n_nominal)
        self._steps = steps_per_epoch(task.n_nominal, self._batch_size)

    def _adam(self, network: nn.Module) -> ReplicaOptimizer:
        config, weights = self.config, list(network.parameters())
        betas = (config.beta1, config.beta2)
        return ReplicaOptimizer(torch.optim.Adam, weights, config.lr, betas=betas)

    @property
    def epochs(self) -> int:
        """Training epochs."""
        return self.config.epochs

    def critic_terms(
        self,
        real: Float[Tensor, "replica n feature"],
        made: Float[Tensor, "replica n feature"],
        class_ids: Int[Tensor, "replica n"],
        mix: Float[Tensor, "replica n"],
    ) -> tuple[Float[Tensor, " replica"], Float[Tensor, " replica"]]:
        """The Wasserstein estimate E[D(real)] - E[D(made)], and the unweighted gradient penalty.

        The critic's loss is gp_weight * penalty - estimate. Interpolates lie within the unit
        sphere, not on it, as in f-CLSWGAN lie between features that are never negative.

        Args:
            real: features of pictures.
            made: synthetic features of the same classes.
            class_ids: of each pair, places among the task's classes.
            mix: share of the real feature in each interpolate, 0 to 1.
        """
        text = self._task.text_features[class_ids]
        estimate = (self.critic(real, text) - self.critic(made, text)).mean(-1)
        penalty = gradient_penalty(lambda x: self.critic(x, text), real, made, mix)
        return estimate, penalty

    def generator_loss(
        self, z: Float[Tensor, "replica n latent"], class_ids: Int[Tensor, "replica n"]
    ) -> Float[Tensor, " replica"]:
        """-E[D(made)] + classification_weight * cross-entropy.

        The cross-entropy is over the seen classes, under CLIP's zero-shot classifier.
        """
        made = self.generator(z, class_ids)
        scores: Tensor = self.critic(made, self._task.text_features[class_ids])
        loss = -scores.mean(-1)
        if self.config.classification_weight == 0:
            return loss
        logits = self._task.zero_shot_logits(made)
        logits = logits.masked_fill(~self._task.seen.unsqueeze(1), -torch.inf)
        log_p = logits.log_softmax(-1).gather(-1, class_ids.unsqueeze(-1)).squeeze(-1)
        return loss - self.config.classification_weight * log_p.mean(-1)

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """The generator steps of one pass over the features, n_critic critic steps before each.

        Returns:
            critic_loss, wasserstein (its estimate) and gradient_penalty (unweighted), averaged over
            the critic's steps; generator_loss, over the generator's.
        """
        critic_sums = self._task.features.new_zeros(2, self._task.n_replicas)
        generator_sum = self._task.features.new_zeros(self._task.n_replicas)
        for _ in range(self._steps):
            for _ in range(self.config.n_critic):
                terms, class_ids = self._train_critic()
                critic_sums += terms / self.config.n_critic
            generator_sum += self._train_generator(class_ids)
        wasserstein, penalty = critic_sums / self._steps
        return {
            "critic_loss": self.config.gp_weight * penalty - wasserstein,
            "wasserstein": wasserstein,
            "gradient_penalty": penalty,
            "generator_loss": generator_sum / self._steps,
        }

    def _train_critic(self) -> tuple[Float[Tensor, "term replica"], Int[Tensor, "replica n"]]:
        """One step of the critic on real features and as many made ones of the same classes."""
        real, class_ids = self._task.batch(self._batches.next(self._batch_size), self._views)
        z = self._draw_z()
        # 24 random bits: uniform in [0, 1) in any precision
        mix = self._mix.integers(2**24, self._batch_size).to(real.dtype) / 2**24
        with torch.no_grad():
            made = self.generator(z, class_ids)
        estimate, penalty = self.critic_terms(real, made, class_ids, mix)
        self._critic_step.zero_grad()
        # summed over replicas, so that each one's gradient is that of its own mean loss
        (self.config.gp_weight * penalty - estimate).sum().backward()
        self._critic_step.step()
        return torch.stack([estimate, penalty]).detach(), class_ids

    def _train_generator(self, class_ids: Int[Tensor, "replica n"]) -> Float[Tensor, " replica"]:
        """One step of the generator, on the classes of the critic's last batch."""
        loss = self.generator_loss(self._draw_z(), class_ids)
        self._generator_step.zero_grad()
        loss.sum().backward()  # the critic's gradients are dropped before its next step
        self._generator_step.step()
        return loss.detach()

    def _draw_z(self) -> Float[Tensor, "replica n latent"]:
        return self._noise.normal(self._batch_size, self.config.latent_dim)

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """Synthetic features: z ~ N(0, I) through the prompt of the given classes."""
        z = rng.normal(class_ids.shape[1], self.config.latent_dim)
        made: Tensor = self.generator(z, class_ids)
        return made

    def learned(self) -> Mapping[str, Part]:
        """The generator; what is sampled needs no critic."""
        return dict(self.generator.named_parameters())

    def parts(self) -> Mapping[str, Part]:
        """Both networks, what moves them, and where the streams are."""
        return {
            "generator": dict(self.generator.named_parameters()),
            "critic": dict(self.critic.named_parameters()),
            "generator_step": self._generator_step,
            "critic_step": self._critic_step,
            "noise": self._noise,
            "mix": self._mix,
            "views": self._views,
            "batches": self._batches,
        }
