"""SHIP's generator: a VAE that decodes through CLIP's frozen text tower.

Source: arXiv:2307.07397, sec. 3.2, and the settings of the authors' code (VAE with one instance
bias added to L global context vectors). Every size is a parameter; all seeds are fused.
"""

from collections.abc import Sequence

from ship.clip import FrozenCLIP
from ship.configs import PromptVAEConfig
from ship.generators.autoencoder import Autoencoder, Encoder
from ship.generators.prompt_network import PromptGenerator, encodes, uses_z
from ship.generators.vae import VAE
from ship.tasks import Task
from ship.training import ReplicaRng


def build_prompt_vae(
    config: PromptVAEConfig,
    task: Task,
    clip: FrozenCLIP,
    seeds: Sequence[int],
) -> VAE:
    """R fused prompt VAEs on the seen classes of a task.

    Args:
        config: of all replicas.
        task: whose seen classes it is fitted on.
        clip: its text tower decodes.
        seeds: of each replica.

    Raises:
        ValueError: contexts too long for the backbone; early stopping without validation pictures.
    """
    weights = ReplicaRng(seeds, "vae/weights", clip.device, task.features.dtype)
    encoder = None
    if encodes(config.prompt):
        encoder = Encoder(clip.feature_dim, config.encoder_hidden, config.latent_dim, weights)
    decoder = PromptGenerator(config, clip, task.class_names, weights)
    latent_dim = config.latent_dim if uses_z(config.prompt) else 0
    network = Autoencoder(encoder, decoder, latent_dim)
    return VAE(config, task, network, seeds)
