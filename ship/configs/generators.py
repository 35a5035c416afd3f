"""What each generator may be set to."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ship.configs.generator_fields import (
    BatchSize,
    CtxInit,
    EncoderHidden,
    Epochs,
    FreeBits,
    GeneratorHidden,
    KLWarmup,
    KLWeight,
    LatentDim,
    LearningRate,
    NCtx,
    Patience,
    Position,
    WeightDecay,
)
from ship.configs.prompt import PromptMode, uses_z
from ship.settings import GeneratorSettings


class PromptVAEConfig(GeneratorSettings):
    """SHIP's generator: a VAE whose decoder is a prompt through CLIP's frozen text tower."""

    method = "ship.generators.vae:PromptVAE"
    name: Literal["vae"] = "vae"
    prompt: Annotated[
        PromptMode,
        Field(
            description="what z makes of the prompt: instance_bias, one vector for all contexts "
            "(reference); instance_tokens, one a context; noise, one vector, where z is noise in "
            "training, too, instead of a code of the picture; global, nothing (contexts learned); "
            "fixed, nothing (words alone, as many contexts as their tokens; not trained)"
        ),
    ] = "instance_bias"
    n_ctx: NCtx = 4
    ctx_init: CtxInit = None
    name_position: Position = "end"
    latent_dim: LatentDim = 512
    encoder_hidden: EncoderHidden = 2048
    generator_hidden: GeneratorHidden = 4096
    kl_weight: KLWeight = 1.0
    kl_warmup: KLWarmup = 0
    free_bits: FreeBits = 0.0
    lr: LearningRate = 1e-3
    weight_decay: WeightDecay = 0.01
    epochs: Epochs = 50
    early_stopping: Patience = None
    batch_size: BatchSize = 256

    @model_validator(mode="after")
    def _carries_something(self) -> "PromptVAEConfig":
        """Without contexts there must be something to add to the name's tokens."""
        if self.n_ctx == 0 and self.prompt not in ("instance_bias", "noise", "fixed"):
            raise ValueError(f"n_ctx must be at least 1 when prompt is {self.prompt}")
        return self

    def unread_reason(self, key: str) -> str | None:
        """A prompt may have no code of the picture, no code at all, or nothing to learn."""
        group, _, leaf = key.partition(".")
        if group != "generator" or leaf in ("", "prompt"):
            return None
        if self.prompt == "fixed" and leaf not in ("ctx_init", "name_position"):
            return "prompt fixed learns nothing"
        of_posterior = leaf in ("kl_weight", "kl_warmup", "free_bits", "encoder_hidden")
        if self.prompt == "global" and (of_posterior or leaf in ("latent_dim", "generator_hidden")):
            return "prompt global has no latent code"
        if self.prompt == "noise" and of_posterior:
            return "prompt noise has no code of the picture"
        return None

    def n_weights(self, feature_dim: int) -> int:
        """Of the matrices from z to the prompt and, where pictures are encoded, to z."""
        if not uses_z(self.prompt):
            return 0
        made = self.generator_hidden * (self.latent_dim + 1)
        return made + (0 if self.prompt == "noise" else _encoder_weights(self, feature_dim))


class WGANConfig(GeneratorSettings):
    """Rival: a WGAN-GP on features given the class's text feature; SHIP's prompts generate."""

    method = "ship.generators.wgan:FusedWGAN"
    name: Literal["wgan"] = "wgan"
    prompt: Literal["instance_bias", "instance_tokens"] = Field(
        "instance_bias",
        description="what z makes of the prompt: instance_bias, one vector for all contexts; "
        "instance_tokens, one a context",
    )
    n_ctx: int = Field(4, ge=1, description="learned context vectors in the prompt (L)")
    ctx_init: CtxInit = None
    name_position: Position = "end"
    latent_dim: LatentDim = 512
    generator_hidden: GeneratorHidden = 4096
    critic_hidden: int = Field(4096, ge=1, description="hidden units of the critic")
    n_critic: int = Field(5, ge=1, description="critic steps before each generator step")
    gp_weight: float = Field(10.0, ge=0, description="weight of the gradient penalty")
    classification_weight: float = Field(
        0.0, ge=0, description="weight of f-CLSWGAN's loss: CLIP must know the made features' class"
    )
    lr: float = Field(1e-4, gt=0, description="Adam's learning rate, of critic and generator")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's decay of the gradient's mean")
    beta2: float = Field(0.9, ge=0, lt=1, description="Adam's decay of the gradient's square")
    epochs: int = Field(
        50, ge=1, description="times as many generator steps as one pass over the features has"
    )
    batch_size: int = Field(256, ge=1, description="features a step")

    def n_weights(self, feature_dim: int) -> int:
        """Of the matrices from z to the prompt, and of the critic's first one."""
        made = self.generator_hidden * (self.latent_dim + 1)
        return made + self.critic_hidden * feature_dim


class MlpVAEConfig(GeneratorSettings):
    """Ablation: a VAE whose decoder is an MLP of z and the class's text feature, without CLIP."""

    method = "ship.generators.mlp_vae:MlpVAE"
    name: Literal["mlp_vae"] = "mlp_vae"
    latent_dim: LatentDim = 512
    encoder_hidden: EncoderHidden = 2048
    generator_hidden: GeneratorHidden = 4096
    kl_weight: KLWeight = 1.0
    kl_warmup: KLWarmup = 0
    free_bits: FreeBits = 0.0
    lr: LearningRate = 1e-3
    weight_decay: WeightDecay = 0.01
    epochs: Epochs = 50
    early_stopping: Patience = None
    batch_size: BatchSize = 256

    def n_weights(self, feature_dim: int) -> int:
        """Of the matrices from z to the feature, and from the picture to z."""
        made = self.generator_hidden * (self.latent_dim + feature_dim)
        return made + _encoder_weights(self, feature_dim)


def _encoder_weights(config: PromptVAEConfig | MlpVAEConfig, feature_dim: int) -> int:
    """Weights of q(z|x): to the hidden units, and from there to a mean and a variance."""
    return config.encoder_hidden * (feature_dim + 2 * config.latent_dim)


class GaussianTextConfig(GeneratorSettings):
    """Control: the class's text feature plus isotropic noise, as if it were a picture's feature."""

    method = "ship.generators.gaussians:GaussianText"
    name: Literal["gaussian_text"] = "gaussian_text"
    scale: float | None = Field(
        None,
        ge=0,
        description="std of the noise per dimension; 0: the text feature; null: that of the base "
        "features within their classes",
    )


class GaussianBaseConfig(GeneratorSettings):
    """Control: the text feature moved by the base classes' mean shift, with their covariance."""

    method = "ship.generators.gaussians:GaussianBase"
    name: Literal["gaussian_base"] = "gaussian_base"
    shrinkage: float | None = Field(
        None,
        ge=0,
        le=1,
        description="weight of the isotropic part in the pooled covariance; null: Ledoit-Wolf",
    )


class KnnGaussianConfig(GeneratorSettings):
    """Rival: a Gaussian from the seen features that are nearest to the class's text feature."""

    method = "ship.generators.neighbours:KnnGaussian"
    name: Literal["knn_gaussian"] = "knn_gaussian"
    neighbours: int = Field(64, ge=1, description="seen features, in all views, of each class")
    text_copies: int = Field(
        16, ge=0, description="times that the text feature counts beside them in the mean"
    )
    centre: Literal["text", "mean"] = Field(
        "text",
        description="what their covariance is taken around: the text feature (the authors' rule), "
        "or their own mean",
    )


class RealPicturesConfig(GeneratorSettings):
    """Ceiling: real training pictures of the new classes, as many as shots; or spoiled by a dose.

    What a dose spoils is known, so that a study of doses tells which measure of features goes with
    accuracy, where studies of methods only show what goes together.
    """

    method = "ship.generators.real:RealPictures"
    name: Literal["real"] = "real"
    dose: float = Field(
        0.0, ge=0, le=1, description="how far class means are moved towards another place; 0: not"
    )
    toward: Literal["text", "noise"] = Field(
        "text", description="that place: the class's text feature, or a random direction of its own"
    )
    spread: float = Field(
        1.0, ge=0, description="factor on the deviations from the class means; 1: as they are"
    )


class NoGeneratorConfig(GeneratorSettings):
    """No synthetic features: the fine-tuner sees base classes alone."""

    name: Literal["none"] = "none"

    def unread_reason(self, key: str) -> str | None:
        """Nothing is made that could be used in one way or another."""
        made = key.startswith("synthetic.")
        return "generator none makes no synthetic features" if made else None
