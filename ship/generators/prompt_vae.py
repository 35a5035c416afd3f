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
from ship.training import ReplicaRng, each_replica


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
    if encodes(shared.prompt):
        encoder = Encoder(clip.feature_dim, shared.encoder_hidden, shared.latent_dim, weights)
    decoder = PromptGenerator(shared, clip, task.class_names, weights)
    latent_dim = shared.latent_dim if uses_z(shared.prompt) else 0
    network = Autoencoder(encoder, decoder, latent_dim)
    return VAE(config, task, network, seeds)
