"""What an autoencoding generator trains, and whether its posterior q(z|x) is in use."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ship.training import ReplicaLinear, ReplicaRng

# A latent dimension counts as active above this variance (arXiv:1509.00519).
ACTIVE_VARIANCE = 0.01


class Encoder(nn.Module):
    """R encoders: feature -> hidden ReLU units -> mean and ln sigma^2 of q(z|x)."""

    def __init__(self, feature_dim: int, hidden: int, latent_dim: int, rng: ReplicaRng) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.hidden = ReplicaLinear(feature_dim, hidden, rng)
        self.mean = ReplicaLinear(hidden, latent_dim, rng)
        self.log_var = ReplicaLinear(hidden, latent_dim, rng)

    def forward(
        self, features: Float[Tensor, "replica n feature"]
    ) -> tuple[Float[Tensor, "replica n latent"], Float[Tensor, "replica n latent"]]:
        """Mean and ln sigma^2 of q(z|x)."""
        hidden = F.relu(self.hidden(features))
        return self.mean(hidden), self.log_var(hidden)


class Autoencoder(nn.Module):
    """What is trained: q(z|x), and a decoder (z, class ids) -> unit-norm features.

    encoder: None where z is noise, or the decoder takes none; such an autoencoder is fitted by
        squared error.
    latent_dim: size of z; 0: the decoder takes none.
    """

    def __init__(self, encoder: Encoder | None, decoder: nn.Module, latent_dim: int = 0) -> None:
        """Build it.

        Args:
            encoder: see above.
            decoder: see above.
            latent_dim: without encoder; else it is the encoder's.
        """
        super().__init__()
        self.encoder = encoder
        self.latent_dim = latent_dim if encoder is None else encoder.latent_dim
        self.decoder = decoder

    def forward(
        self,
        features: Float[Tensor, "replica n feature"],
        class_ids: Int[Tensor, "replica n"],
        noise: Float[Tensor, "replica n z"] | None,
    ) -> tuple[
        Float[Tensor, "replica n feature"],
        Float[Tensor, "replica n latent"],
        Float[Tensor, "replica n latent"],
    ]:
        """Reconstruction, mean and ln sigma^2 of the posterior, sampled with the given noise.

        Without encoder the posterior has no dimensions, and so no KL.

        Args:
            features: of pictures, unit norm.
            class_ids: of each feature, places among the task's classes.
            noise: standard normal; None where the decoder takes no z.
        """
        if self.encoder is None or noise is None:
            empty = features.new_zeros(*features.shape[:2], 0)
            return self.decoder(noise, class_ids), empty, empty
        mean, log_var = self.encoder(features)
        z = mean + noise * (0.5 * log_var).exp()
        return self.decoder(z, class_ids), mean, log_var


@torch.no_grad()
def active_units(
    encoder: Encoder,
    features: Float[Tensor, "replica n feature"],
    real: Bool[Tensor, "replica n"],
    chunk: int,
) -> Float[Tensor, " replica"]:
    """Latent dimensions whose posterior mean varies over the features by more than 0.01.

    Burda et al. 2016 (arXiv:1509.00519): Cov_x(E_q[z_j]) > 0.01; 0 of them is posterior
    collapse.

    Args:
        real: rows that count; the others are padding.
        chunk: rows that are encoded at a time, so that memory does not grow with the dataset.
    """
    counts = real.sum(1, keepdim=True)
    first, _ = encoder(features[:, :1])
    total = first.new_zeros(len(first), encoder.latent_dim)
    squares = torch.zeros_like(total)
    for rows, mask in zip(features.split(chunk, 1), real.split(chunk, 1), strict=True):
        # about the first picture's mean, lest the squares swamp a small variance
        apart = (encoder(rows)[0] - first) * mask.unsqueeze(-1)
        total += apart.sum(1)
        squares += apart.square().sum(1)
    variance = squares / counts - (total / counts).square()
    active: Tensor = (variance > ACTIVE_VARIANCE).sum(-1)
    return active.to(features.dtype)


def real_rows(
    counts: tuple[int, ...], n: int, device: torch.device | str
) -> Bool[Tensor, "replica n"]:
    """Which of n padded rows are real, for each replica.

    Args:
        counts: real rows of each replica.
        n: rows with padding.
        device: of the result.
    """
    ends = torch.tensor(counts, device=device).unsqueeze(1)
    return torch.arange(n, device=device) < ends
