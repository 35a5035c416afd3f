"""SHIP's generator: a VAE of image features that decodes through CLIP's frozen text tower.

Source: arXiv:2307.07397, sec. 3.2, and the settings of the authors' code: one instance bias r is
added to L global context vectors. The generating prompt is [SOT] (ctx_1 + r) ... (ctx_L + r) [class
name] . [EOT]. The WGAN uses the same decoder. The variants in PromptDecoder are ablations of this
prompt.

MlpVAE decodes with a trained MLP instead of CLIP, which is an ablation of SHIP's main idea. Its
decoder gets the class's text feature, as f-VAEGAN's decoder gets attributes (arXiv:1903.10132).
Encoder, loss and training are those of the prompt VAE.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.generators import MlpVAEConfig, PromptVAEConfig, VAESettings, WGANConfig, uses_z
from ship.methods import Draw, Features, Generator, Labels, Noise, Rng, SeedTask
from ship.methods.prompts import Linear, Prompts, make_initial_context

# A latent dimension counts as active above this variance (arXiv:1509.00519).
ACTIVE_VARIANCE = 0.01
# Features per pass through the encoder when active dimensions are counted. It bounds memory on
# ImageNet.
ENCODED_AT_ONCE = 4096


class Encoder(nn.Module):
    """An MLP with one hidden ReLU layer from a feature to mean and ln sigma^2 of q(z|x)."""

    def __init__(self, feature_dim: int, config: VAESettings, rng: Rng) -> None:
        super().__init__()
        self.hidden = Linear(feature_dim, config.encoder_hidden, rng)
        self.mean = Linear(config.encoder_hidden, config.latent_dim, rng)
        self.log_var = Linear(config.encoder_hidden, config.latent_dim, rng)

    def forward(
        self, features: Float[Tensor, "n feature"]
    ) -> tuple[Float[Tensor, "n latent"], Float[Tensor, "n latent"]]:
        """Return mean and ln sigma^2 of q(z|x)."""
        hidden = F.relu(self.hidden(features))
        return self.mean(hidden), self.log_var(hidden)


class VAE(Generator):
    """Base class of VAEs: an encoder and a decoder, fitted with the ELBO.

    Attributes:
        encoder: Encoder of the features. None if z does not depend on the image, or if there is no
            z. The decoder is then fitted with the squared error only.
        decoder: Maps z and class IDs to unit-norm features.
    """

    stream = "vae"  # shared, so that all VAEs see the same batches and noise in a comparison
    sampler = "decoder"
    decoder: nn.Module

    def __init__(self, config: VAESettings, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        self.encoder: Encoder | None = None
        self.noise_size = config.latent_dim
        self.patience, self.warmup = config.early_stopping, config.kl_warmup

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Return AdamW, as in the authors' code."""
        return torch.optim.AdamW, {"lr": self.config.lr, "weight_decay": self.config.weight_decay}

    def kl_weight(self, epoch: float) -> float:
        """Return the weight of the KL term. During warm-up it rises linearly from 0 in epoch 1."""
        weight: float = self.config.kl_weight
        return weight * min(1.0, (epoch - 1) / self.warmup) if self.warmup else weight

    def loss(
        self, features: Features, labels: Labels, noise: Noise, epoch: float
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the negative ELBO up to constants: squared error + kl_weight * KL(q || N(0, I)).

        In the loss, the KL of each latent dimension (batch mean) counts as at least free_bits nats,
        so a smaller KL has no gradient (arXiv:1606.04934, sec. C.8). The reported KL is the true
        one, in nats.
        """
        if self.encoder is None or noise is None:
            error = _compute_squared_error(self.sample(labels, noise), features)
            return {"loss": error, "reconstruction": error}
        mean, log_var = self.encoder(features)
        z = mean + noise * (0.5 * log_var).exp()
        error = _compute_squared_error(self.sample(labels, z), features)
        nats = 0.5 * (mean.square() + log_var.exp() - 1 - log_var)
        kl = nats.sum(-1).mean()
        penalty = kl
        if self.config.free_bits:
            penalty = nats.mean(0).clamp(min=self.config.free_bits).sum()
        loss = error + self.kl_weight(epoch) * penalty
        return {"loss": loss, "reconstruction": error, "kl": kl}

    def epoch_metrics(self, features: Features) -> dict[str, Float[Tensor, ""]]:
        """Count the latent dimensions whose posterior mean varies over the features.

        A dimension is active if Cov_x(E_q[z_j]) > 0.01 (Burda et al. 2016, arXiv:1509.00519).
        Without active dimensions the posterior has collapsed.

        Args:
            features: Features of all training images without augmentation, unit norm.

        Returns:
            The number of active dimensions, under the key "active_units". Empty without an encoder.
        """
        if self.encoder is None:
            return {}
        means = torch.cat([self.encoder(part)[0] for part in features.split(ENCODED_AT_ONCE)])
        active = means.var(0, correction=0) > ACTIVE_VARIANCE
        return {"active_units": active.sum().to(features.dtype)}

    def sample(self, class_ids: Labels, noise: Noise) -> Features:
        """Decode the noise as z. Without z, all features of a class are equal."""
        features: Tensor = self.decoder(noise, class_ids)
        return features


def _compute_squared_error(decoded: Tensor, features: Tensor) -> Tensor:
    """Return the squared error, summed over dimensions and averaged over rows."""
    return (decoded - features).square().sum(-1).mean()


class PromptVAE(VAE):
    """SHIP's generator, which decodes through CLIP's frozen text tower.

    Raises:
        ValueError: The contexts leave no room for a class name.
    """

    def __init__(
        self, config: PromptVAEConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        rng, has_code = draw("vae/weights"), uses_z(config.prompt)
        self.noise_size = config.latent_dim if has_code else 0
        if has_code and config.prompt != "noise":
            self.encoder = Encoder(clip.feature_dim, config, rng)
        self.decoder = PromptDecoder(config, clip, task.class_names, rng)


class MlpDecoder(nn.Module):
    """An MLP with one hidden ReLU layer from [z, class text feature] to a unit-norm feature."""

    def __init__(
        self, config: MlpVAEConfig, text: Float[Tensor, "n_cls feature"], rng: Rng
    ) -> None:
        super().__init__()
        self._text = text
        self.hidden = Linear(config.latent_dim + text.shape[1], config.generator_hidden, rng)
        self.feature = Linear(config.generator_hidden, text.shape[1], rng)

    def forward(
        self, z: Float[Tensor, "n latent"], class_ids: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """Return unit-norm features of the classes."""
        inputs = torch.cat([z, self._text[class_ids]], dim=-1)
        return F.normalize(self.feature(F.relu(self.hidden(inputs))), dim=-1)


class MlpVAE(VAE):
    """The prompt VAE with an MLP as decoder."""

    def __init__(self, config: MlpVAEConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        rng = draw("vae/weights")  # as in PromptVAE, so that both start from the same encoder
        self.encoder = Encoder(clip.feature_dim, config, rng)
        self.decoder = MlpDecoder(config, task.text_features, rng)


# Words of `prompt: fixed` if ctx_init is null.
FIXED_WORDS = "a photo of a"


class PromptDecoder(nn.Module):
    """A decoder that turns z into a prompt, and encodes the prompt with the frozen text tower.

    The setting `prompt` selects the prompt:

    - "instance_bias", SHIP's own: an MLP maps z to one vector r, which is added to all L global
      contexts, or to the tokens of the class name if L is 0.
    - "instance_tokens": the MLP computes L vectors, one added to each context. Replacing the
      contexts instead would span the same prompts, because the last layer's bias acts like a
      context, but would lose their initialization.
    - "noise": like "instance_bias", but z is random and does not depend on the image (cf. the
      random vectors that CaPT, arXiv:2506.23856, uses in place of image features).
    - "global": learned contexts without z.
    - "fixed": the embeddings of `ctx_init`, or of FIXED_WORDS if it is null. Nothing is learned.

    Attributes:
        ctx: Global contexts, (L, width).

    Raises:
        ValueError: The contexts leave no room for a class name.
    """

    def __init__(
        self,
        config: PromptVAEConfig | WGANConfig,
        clip: FrozenCLIP,
        class_names: Sequence[str],
        rng: Rng,
    ) -> None:
        super().__init__()
        n_ctx, words = config.n_ctx, config.ctx_init
        if config.prompt == "fixed":
            words = words or FIXED_WORDS
            n_ctx = len(clip.tokenizer.encode(words))
        self._prompts = Prompts(clip, class_names, n_ctx, config.name_position)
        if uses_z(config.prompt):
            vectors = n_ctx if config.prompt == "instance_tokens" else 1
            self.expand = Linear(config.latent_dim, config.generator_hidden, rng)
            self.bias = Linear(config.generator_hidden, vectors * clip.text_width, rng)
        ctx = make_initial_context(clip, n_ctx, words, rng)
        self.ctx = nn.Parameter(ctx, requires_grad=config.prompt != "fixed")

    def forward(
        self, z: Float[Tensor, "n latent"] | None, class_ids: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """Return unit-norm features of the prompts built from z and the class names.

        Args:
            z: Latent vector of each prompt, or None if the prompt does not depend on it.
            class_ids: Class of each prompt.
        """
        n_ctx, width = self.ctx.shape
        contexts = self.ctx.expand(len(class_ids), -1, -1)
        if z is None:
            return self._prompts.encode_prompts(contexts, class_ids)
        r = self.bias(F.relu(self.expand(z)))
        if not n_ctx:
            return self._prompts.encode_prompts(contexts, class_ids, r)
        return self._prompts.encode_prompts(self.ctx + r.unflatten(-1, (-1, width)), class_ids)
