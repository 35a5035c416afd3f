"""A VAE that decodes with a new MLP in place of CLIP: the ablation of SHIP's main idea.

The decoder sees the class as its text feature, as f-VAEGAN's does its attributes
(arXiv:1903.10132); all else (encoder, loss, training) is the prompt VAE's.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs import MlpVAEConfig
from ship.generators.autoencoder import Autoencoder, Encoder
from ship.generators.vae import VAE
from ship.tasks import Task
from ship.training import ReplicaLinear, ReplicaRng


class MlpDecoder(nn.Module):
    """R decoders: [z, class text feature] -> hidden ReLU units -> unit-norm feature."""

    def __init__(
        self,
        config: MlpVAEConfig,
        text_features: Float[Tensor, "n_cls feature"],
        rng: ReplicaRng,
    ) -> None:
        super().__init__()
        feature_dim = text_features.shape[1]
        self._text_features = text_features
        self.hidden = ReplicaLinear(config.latent_dim + feature_dim, config.generator_hidden, rng)
        self.feature = ReplicaLinear(config.generator_hidden, feature_dim, rng)

    def forward(
        self, z: Float[Tensor, "replica n latent"], class_ids: Int[Tensor, "replica n"]
    ) -> Float[Tensor, "replica n feature"]:
        """Features of the given classes."""
        given = torch.cat([z, self._text_features[class_ids]], dim=-1)
        return F.normalize(self.feature(F.relu(self.hidden(given))), dim=-1)


def build_mlp_vae(
    config: MlpVAEConfig,
    task: Task,
    clip: FrozenCLIP,
    seeds: Sequence[int],
) -> VAE:
    """R fused VAEs with MLP decoders on the seen classes of a task; settings as in the prompt VAE.

    Args:
        config: of all replicas.
        task: whose seen classes it is fitted on.
        clip: gives the size of features, and the device.
        seeds: of each replica.

    Raises:
        ValueError: early stopping without validation pictures.
    """
    # the stream of the prompt VAE: both start from the same encoder
    weights = ReplicaRng(seeds, "vae/weights", clip.device, task.features.dtype)
    encoder = Encoder(clip.feature_dim, config.encoder_hidden, config.latent_dim, weights)
    decoder = MlpDecoder(config, task.text_features, weights)
    return VAE(config, task, Autoencoder(encoder, decoder), seeds)
