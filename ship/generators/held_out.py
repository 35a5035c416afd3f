"""The held-out ELBO of fused autoencoders, on validation pictures of their seen classes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ship.generators.autoencoder import Autoencoder, real_rows
from ship.generators.losses import kl_to_prior, with_free_bits
from ship.tasks import Task, pad_rows
from ship.training import ReplicaRng


class HeldOut:
    """Validation pictures, each with one noise vector that is the same at every epoch.

    Fixed noise makes epochs comparable and, unlike z at the posterior mean, leaves the estimate of
    the ELBO unbiased: the posterior's variance has its price in squared error.

    Raises:
        ValueError: a replica has no validation pictures.
    """

    def __init__(self, task: Task, network: Autoencoder, seeds: Sequence[int]) -> None:
        without = [s for s, n in zip(seeds, task.held_out_counts, strict=True) if n == 0]
        if without:
            raise ValueError(
                "generator.early_stopping needs validation pictures of the seen classes, "
                f"there are none for seeds {without} (null: no early stopping)"
            )
        self._features = task.held_out
        self._class_ids = task.held_out_labels
        device, dtype = task.held_out.device, task.held_out.dtype
        self._real = real_rows(task.held_out_counts, task.held_out.shape[1], device)
        self._noise: Tensor | None = None
        if network.latent_dim:
            # drawn by replica: how much one draws must not depend on the others' padding
            latent_dim = network.latent_dim
            self._noise = pad_rows(
                [
                    ReplicaRng([seed], "vae/held_out", dtype=dtype).normal(count, latent_dim)[0]
                    for seed, count in zip(seeds, task.held_out_counts, strict=True)
                ]
            ).to(device)

    @torch.no_grad()
    def loss(
        self,
        network: Autoencoder,
        kl_weight: float,
        free_bits: float,
        chunk: int,
    ) -> Float[Tensor, " replica"]:
        """Mean squared error + kl_weight * KL (penalised as in training), over the real rows.

        Args:
            chunk: rows that are decoded at a time, so that memory does not grow with the dataset.
        """
        squared_error: Tensor | float = 0.0
        kl: Tensor | float = 0.0
        for start in range(0, self._features.shape[1], chunk):
            rows = slice(start, start + chunk)
            features, real = self._features[:, rows], self._real[:, rows]
            noise = None if self._noise is None else self._noise[:, rows]
            made, mean, log_var = network(features, self._class_ids[:, rows], noise)
            squared_error += ((made - features).square().sum(-1) * real).sum(1)
            kl += (kl_to_prior(mean, log_var) * real.unsqueeze(-1)).sum(1)
        counts = self._real.sum(1)
        penalised = with_free_bits(kl / counts.unsqueeze(1), free_bits)
        return squared_error / counts + kl_weight * penalised
