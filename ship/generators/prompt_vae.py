"""SHIP's generator: a VAE that decodes through CLIP's frozen text tower.

Source: arXiv:2307.07397, sec. 3.2, and the settings of the authors' code (VAE with one instance
bias added to L global context vectors). Every size is a parameter; all seeds are fused.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ship.clip import FrozenCLIP
from ship.generators.autoencoder import Autoencoder, Encoder
from ship.generators.prompt_network import (
    CtxInit,
    GeneratorHidden,
    LatentDim,
    NCtx,
    Position,
    PromptGenerator,
    PromptMode,
    uses_z,
)
from ship.generators.vae import (
    VAE,
    BatchSize,
    EncoderHidden,
    Epochs,
    FreeBits,
    KLWarmup,
    KLWeight,
    LearningRate,
    Patience,
    WeightDecay,
)
from ship.settings import Settings
from ship.tasks import Task
from ship.training import ReplicaRng, each_replica


class PromptVAEConfig(Settings):
    """SHIP's generator: a VAE whose decoder is a prompt through CLIP's frozen text tower."""

    name: Literal["vae"] = "vae"
    prompt: Annotated[
        PromptMode,
        Field(
            description="what z makes of the prompt: instance_bias, one vector for all contexts "
            "(reference); instance_tokens, one a context; global, nothing (contexts learned); "
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
        if self.n_ctx == 0 and self.prompt not in ("instance_bias", "fixed"):
            raise ValueError(f"n_ctx must be at least 1 when prompt is {self.prompt}")
        return self


def build_prompt_vae(
    config: PromptVAEConfig | Sequence[PromptVAEConfig],
    task: Task,
    clip: FrozenCLIP,
    seeds: Sequence[int],
) -> VAE:
    """R fused prompt VAEs on the seen classes of a task, of one setting or one for each replica.

    Args:
        config: of all replicas, or one for each.
        task: whose seen classes it is fitted on.
        clip: its text tower decodes.
        seeds: of each replica.

    Raises:
        ValueError: contexts too long for the backbone; early stopping without validation pictures.
    """
    shared = each_replica(config, task.n_replicas)[0]
    weights = ReplicaRng(seeds, "vae/weights", clip.device, task.features.dtype)
    encoder = None
    if uses_z(shared.prompt):
        encoder = Encoder(clip.feature_dim, shared.encoder_hidden, shared.latent_dim, weights)
    decoder = PromptGenerator(shared, clip, task.class_names, weights)
    return VAE(config, task, Autoencoder(encoder, decoder), seeds, clip.recorder)
