"""A VAE that decodes with a new MLP in place of CLIP: the ablation of SHIP's main idea.

The decoder sees the class as its text feature, as f-VAEGAN's does its attributes
(arXiv:1903.10132); all else (encoder, loss, training) is the prompt VAE's.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.generators import MlpVAEConfig
from ship.generators.vae import VAE, Encoder
from ship.methods import Draw, Linear, Rng
from ship.tasks import SeedTask


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
