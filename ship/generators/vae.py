"""SHIP's generator: a VAE of features that decodes through CLIP's frozen text tower.

Source: arXiv:2307.07397, sec. 3.2, and the settings of the authors' code (a VAE with one instance
bias added to L global context vectors). Every size is a parameter. The prompt that generates is
[SOT] (ctx_1 + r) ... (ctx_L + r) [class name] . [EOT]; the WGAN shares it, and its variants are the
ablation of the prompt.

MlpVAE decodes with a new MLP in place of CLIP: the ablation of SHIP's main idea. Its decoder sees
the class as its text feature, as f-VAEGAN's does its attributes (arXiv:1903.10132); all else
(encoder, loss, training) is the prompt VAE's.
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
from ship.methods.prompts import Linear, Prompts, initial_context

# A latent dimension counts as active above this variance (arXiv:1509.00519).
ACTIVE_VARIANCE = 0.01
# Features that are encoded at once to count such dimensions; bounds memory on all of ImageNet.
ENCODED_AT_ONCE = 4096


class Encoder(nn.Module):
    """Feature -> hidden ReLU units -> mean and ln sigma^2 of q(z|x)."""

    def __init__(self, feature_dim: int, config: VAESettings, rng: Rng) -> None:
        super().__init__()
        self.hidden = Linear(feature_dim, config.encoder_hidden, rng)
        self.mean = Linear(config.encoder_hidden, config.latent_dim, rng)
        self.log_var = Linear(config.encoder_hidden, config.latent_dim, rng)

    def forward(
        self, features: Float[Tensor, "n feature"]
    ) -> tuple[Float[Tensor, "n latent"], Float[Tensor, "n latent"]]:
        """Mean and ln sigma^2 of q(z|x)."""
        hidden = F.relu(self.hidden(features))
        return self.mean(hidden), self.log_var(hidden)


class VAE(Generator):
    """An encoder and a decoder (z, class ids) -> unit-norm features, fitted by the ELBO.

    encoder: None where z is noise in fitting, too, or there is none: fitted by squared error.
    """

    stream = "vae"  # of every VAE, so that they see the same batches and noise in a comparison
    sampler = "decoder"
    decoder: nn.Module

    def __init__(self, config: VAESettings, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        self.encoder: Encoder | None = None
        self.noise_size = config.latent_dim
        self.patience, self.warmup = config.early_stopping, config.kl_warmup

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """AdamW, as in the authors' code."""
        return torch.optim.AdamW, {"lr": self.config.lr, "weight_decay": self.config.weight_decay}

    def kl_weight(self, epoch: float) -> float:
        """Weight of the KL term in an epoch (from 1): 0 in the first of the warm-up's epochs."""
        weight: float = self.config.kl_weight
        return weight * min(1.0, (epoch - 1) / self.warmup) if self.warmup else weight

    def loss(
        self, features: Features, labels: Labels, noise: Noise, epoch: float
    ) -> dict[str, Float[Tensor, ""]]:
        """The negative ELBO up to constants: squared error + kl_weight * KL(q(z|x) || N(0, I)).

        A latent dimension costs free_bits nats at least, so that it has no gradient below them
        (arXiv:1606.04934, sec. C.8); the KL that is reported is the true one, in nats.
        """
        if self.encoder is None or noise is None:
            error = _squared_error(self.sample(labels, noise), features)
            return {"loss": error, "reconstruction": error}
        mean, log_var = self.encoder(features)
        z = mean + noise * (0.5 * log_var).exp()
        error = _squared_error(self.sample(labels, z), features)
        nats = 0.5 * (mean.square() + log_var.exp() - 1 - log_var)
        kl = nats.sum(-1).mean()
        price = kl
        if self.config.free_bits:
            price = nats.mean(0).clamp(min=self.config.free_bits).sum()
        loss = error + self.kl_weight(epoch) * price
        return {"loss": loss, "reconstruction": error, "kl": kl}

    def measure(self, features: Features) -> dict[str, Float[Tensor, ""]]:
        """Latent dimensions whose posterior mean varies over the features by more than 0.01.

        Burda et al. 2016 (arXiv:1509.00519): Cov_x(E_q[z_j]) > 0.01; 0 of them is posterior
        collapse.
        """
        if self.encoder is None:
            return {}
        means = torch.cat([self.encoder(part)[0] for part in features.split(ENCODED_AT_ONCE)])
        active = means.var(0, correction=0) > ACTIVE_VARIANCE
        return {"active_units": active.sum().to(features.dtype)}

    def sample(self, class_ids: Labels, noise: Noise) -> Features:
        """z ~ N(0, I) through the decoder; without z it gives one feature a class."""
        made: Tensor = self.decoder(noise, class_ids)
        return made


def _squared_error(made: Tensor, features: Tensor) -> Tensor:
    """Summed over dimensions, averaged over the rows."""
    return (made - features).square().sum(-1).mean()


class PromptVAE(VAE):
    """SHIP's generator: it decodes through CLIP's frozen text tower.

    Raises:
        ValueError: contexts too long for the backbone.
    """

    def __init__(
        self, config: PromptVAEConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        rng, drawn = draw("vae/weights"), uses_z(config.prompt)
        self.noise_size = config.latent_dim if drawn else 0
        if drawn and config.prompt != "noise":
            self.encoder = Encoder(clip.feature_dim, config, rng)
        self.decoder = PromptDecoder(config, clip, task.class_names, rng)


class MlpDecoder(nn.Module):
    """[z, class text feature] -> hidden ReLU units -> unit-norm feature."""

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
        """Features of the given classes."""
        given = torch.cat([z, self._text[class_ids]], dim=-1)
        return F.normalize(self.feature(F.relu(self.hidden(given))), dim=-1)


class MlpVAE(VAE):
    """The prompt VAE with another decoder."""

    def __init__(self, config: MlpVAEConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        rng = draw("vae/weights")  # the prompt VAE's: both start from the same encoder
        self.encoder = Encoder(clip.feature_dim, config, rng)
        self.decoder = MlpDecoder(config, task.text_features, rng)


# The words of prompt "fixed" where ctx_init is null.
FIXED_WORDS = "a photo of a"


class PromptDecoder(nn.Module):
    """Prompts that z makes, in front of the frozen text tower.

    prompt "instance_bias": an MLP makes one vector r from z, added to all L global contexts (the
    reference); where there are none, to the tokens of the class name. "instance_tokens": it makes L
    vectors, one added to each context; replacing the contexts instead would span the same prompts,
    as the last layer's bias does what a context does, but would lose their initialisation. "noise":
    as "instance_bias", of a z that knows nothing of the picture (cf. the random vectors that CaPT,
    arXiv:2506.23856, puts in the place of image features).
    "global": contexts alone. "fixed": words, nothing learned.

    Attributes:
        ctx: global contexts, (L, width).

    Raises:
        ValueError: the contexts leave no room for a class name.
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
        ctx = initial_context(clip, n_ctx, words, rng)
        self.ctx = nn.Parameter(ctx, requires_grad=config.prompt != "fixed")

    def forward(
        self, z: Float[Tensor, "n latent"] | None, class_ids: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """Unit-norm features of the prompts that z and the class names make.

        Args:
            z: None where the prompt does not depend on it.
            class_ids: of the prompts.
        """
        n_ctx, width = self.ctx.shape
        shared = self.ctx.expand(len(class_ids), -1, -1)
        if z is None:
            return self._prompts.each(shared, class_ids)
        r = self.bias(F.relu(self.expand(z)))
        if not n_ctx:
            return self._prompts.each(shared, class_ids, r)
        return self._prompts.each(self.ctx + r.unflatten(-1, (-1, width)), class_ids)
