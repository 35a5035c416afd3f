"""Settings of the generators."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ship.settings import GeneratorSettings, NamePosition

# How the latent code z changes a prompt (see PromptVAEConfig.prompt).
PromptMode = Literal["instance_bias", "instance_tokens", "noise", "global", "fixed"]

_LatentDim = Annotated[int, Field(ge=1, description="size of the latent code z")]
_GeneratorHidden = Annotated[
    int,
    Field(
        ge=1,
        description="hidden units of the MLP that maps z to the prompt (mlp_vae: to the feature)",
    ),
]


def uses_z(prompt: PromptMode) -> bool:
    """Return True if the prompts of a class depend on z, so that its features differ."""
    return prompt in ("instance_bias", "instance_tokens", "noise")


class _PromptSettings(GeneratorSettings):
    """Settings of a generator whose features are text features of prompts."""

    prompt: PromptMode
    n_ctx: int
    ctx_init: str | None = Field(None, min_length=1)
    """words that initialize the context vectors; null: random, normal with std 0.02 (with prompt
    fixed: 'a photo of a')"""
    name_position: NamePosition = "end"
    """position of the class name relative to the context vectors"""


class VAESettings(GeneratorSettings):
    """Settings that VAEs on image features share."""

    latent_dim: _LatentDim = 512
    encoder_hidden: int = Field(2048, ge=1)
    """hidden units of the encoder q(z|x)"""
    generator_hidden: _GeneratorHidden = 4096
    kl_weight: float = Field(1.0, ge=0)
    """weight of the KL term"""
    kl_warmup: int = Field(0, ge=0)
    """epochs over which the KL weight grows from 0 to kl_weight"""
    free_bits: float = Field(0.0, ge=0)
    """KL per latent dimension, in nats, that is not penalized"""
    lr: float = Field(1e-3, gt=0)
    """AdamW's learning rate"""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's weight decay"""
    epochs: int = Field(50, ge=1)
    """passes over the base features"""
    early_stopping: int | None = Field(None, ge=1)
    """epochs without a better ELBO on validation images before a seed stops; null: never"""
    batch_size: int = Field(256, ge=1)
    """features per step"""


class PromptVAEConfig(VAESettings, _PromptSettings):
    """SHIP: a VAE whose decoder passes a prompt through CLIP's frozen text tower."""

    method = "ship.generators.vae:PromptVAE"
    name: Literal["vae"] = "vae"
    prompt: PromptMode = "instance_bias"
    """what the decoder adds to the context vectors. instance_bias: one vector, computed from z, to
    all of them. instance_tokens: a separate vector to each. noise: as instance_bias, but z is
    random noise even in training, not encoded from an image. global: nothing; the context is
    learned. fixed: nothing; the context is the words of ctx_init, and is not trained"""
    n_ctx: int = Field(4, ge=0)
    """number of learned context vectors; with 0, instance_bias and noise add their vector to the
    tokens of the class name instead"""

    @model_validator(mode="after")
    def _require_learned_prompt(self) -> "PromptVAEConfig":
        """Reject n_ctx 0 with prompt modes that need context vectors."""
        if self.n_ctx == 0 and self.prompt not in ("instance_bias", "noise", "fixed"):
            raise ValueError(f"n_ctx must be at least 1 when prompt is {self.prompt}")
        return self

    def explain_unused(self, key: str) -> str | None:
        """Explain why the prompt mode ignores keys of the posterior, of z, or of training."""
        group, _, leaf = key.partition(".")
        if group != "generator" or leaf in ("", "prompt"):
            return None
        if self.prompt == "fixed" and leaf not in ("ctx_init", "name_position"):
            return "prompt fixed learns nothing"
        is_posterior_key = leaf in ("kl_weight", "kl_warmup", "free_bits", "encoder_hidden")
        is_latent_key = is_posterior_key or leaf in ("latent_dim", "generator_hidden")
        if self.prompt == "global" and is_latent_key:
            return "prompt global has no latent code"
        if self.prompt == "noise" and is_posterior_key:
            return "prompt noise has no posterior"
        return None


class WGANConfig(_PromptSettings):
    """Competing method: a conditional WGAN-GP that generates features through SHIP's prompts."""

    method = "ship.generators.wgan:BatchedWGAN"
    name: Literal["wgan"] = "wgan"
    prompt: Literal["instance_bias", "instance_tokens"] = "instance_bias"
    """what the decoder adds to the context vectors (see vae)"""
    n_ctx: int = Field(4, ge=1)
    """number of learned context vectors"""
    latent_dim: _LatentDim = 512
    generator_hidden: _GeneratorHidden = 4096
    critic_hidden: int = Field(4096, ge=1)
    """hidden units of the critic"""
    n_critic: int = Field(5, ge=1)
    """critic steps before each generator step"""
    gp_weight: float = Field(10.0, ge=0)
    """weight of the gradient penalty"""
    classification_weight: float = Field(0.0, ge=0)
    """weight of the classification loss of f-CLSWGAN"""
    lr: float = Field(1e-4, gt=0)
    """Adam's learning rate"""
    beta1: float = Field(0.5, ge=0, lt=1)
    """Adam's decay rate of the gradient's moving average"""
    beta2: float = Field(0.9, ge=0, lt=1)
    """Adam's decay rate of the squared gradient's moving average"""
    epochs: int = Field(50, ge=1)
    """number of epochs, each with as many generator steps as there are batches of base features"""
    batch_size: int = Field(256, ge=1)
    """features per step"""


class MlpVAEConfig(VAESettings):
    """Ablation: a VAE whose decoder is an MLP on z and a class's text feature, without prompts."""

    method = "ship.generators.vae:MlpVAE"
    name: Literal["mlp_vae"] = "mlp_vae"


class GaussianTextConfig(GeneratorSettings):
    """Control: the class's text feature plus isotropic noise, normalized."""

    method = "ship.generators.gaussians:GaussianText"
    name: Literal["gaussian_text"] = "gaussian_text"
    scale: float | None = Field(None, ge=0)
    """standard deviation of the noise per dimension; null: standard deviation of base features
    within classes"""


class GaussianBaseConfig(GeneratorSettings):
    """Control: a Gaussian at the shifted text feature; base classes give shift and covariance."""

    method = "ship.generators.gaussians:GaussianBase"
    name: Literal["gaussian_base"] = "gaussian_base"
    shrinkage: float | None = Field(None, ge=0, le=1)
    """weight of the isotropic part in the pooled covariance; null: Ledoit-Wolf estimate"""


class KnnGaussianConfig(GeneratorSettings):
    """Competing method: a Gaussian from the seen features nearest to the class's text feature."""

    method = "ship.generators.gaussians:KnnGaussian"
    name: Literal["knn_gaussian"] = "knn_gaussian"
    neighbors: int = Field(64, ge=1)
    """number of nearest seen features per class; each view of an image is counted separately"""
    text_copies: int = Field(16, ge=0)
    """number of copies of the text feature in the mean of the neighbors"""
    center: Literal["text", "mean"] = "text"
    """center of the neighbors' covariance: the text feature or the neighbors' mean"""


class RealImagesConfig(GeneratorSettings):
    """Upper bound: real training images of the new classes, `shots` per class.

    `mean_shift` and `spread_scale` degrade the features in a known way. Varying them shows which
    quality metrics respond to the cause of a lower accuracy, whereas a study of methods can only
    show that metrics correlate with accuracy.
    """

    method = "ship.generators.source:RealImages"
    name: Literal["real"] = "real"
    mean_shift: float = Field(0.0, ge=0, le=1)
    """fraction of the distance by which class means are moved towards shift_target"""
    shift_target: Literal["text", "noise"] = "text"
    """target of the shift. text: the class's text feature; noise: a random vector"""
    spread_scale: float = Field(1.0, ge=0)
    """factor on the deviations from the class means"""


class NoGeneratorConfig(GeneratorSettings):
    """No synthetic features: the fine-tuner uses base classes only."""

    name: Literal["none"] = "none"

    def explain_unused(self, key: str) -> str | None:
        """Explain why the keys below `synthetic` are ignored."""
        ignored = key.startswith("synthetic.")
        return "generator none produces no synthetic features" if ignored else None
