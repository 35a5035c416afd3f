"""Tip-Adapter's cache (arXiv:2207.09519): features as keys, their classes as values."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ship.finetuners.training_set import FixedSet
from ship.training import CheckpointError, State, copied, taken


class Cache:
    """Keys (replica, n, feature) and values (replica, n, n_cls) of a fixed set; padding is 0."""

    def __init__(self, rows: FixedSet, n_cls: int) -> None:
        one_hot = F.one_hot(rows.labels, n_cls).to(rows.features.dtype)
        self.values: Float[Tensor, "replica n n_cls"] = one_hot * rows.used.unsqueeze(-1)
        # padded rows stay zero vectors: normalising leaves them so
        self.keys: Float[Tensor, "replica n feature"] = F.normalize(rows.features.mean(2), dim=-1)

    def state_dict(self) -> State:
        """Keys and, for each, the class that its value names (-1: padding), (replica, n)."""
        named = torch.where(self.values.any(-1), self.values.argmax(-1), -1)
        return {"keys": copied(self.keys), "labels": copied(named)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave, of any number of pictures.

        Raises:
            CheckpointError: keys or classes that are none of this cache's.
        """
        labels = state.get("labels", torch.empty(0))
        n, n_cls = labels.shape[-1] if labels.ndim else 0, self.values.shape[-1]
        like = self.keys.new_empty(len(self.keys), n, self.keys.shape[-1], device="cpu")
        labels = taken(state, "labels", torch.empty(len(self.keys), n, dtype=torch.long))
        keys = taken(state, "keys", like)
        if bool(((labels < -1) | (labels >= n_cls)).any()):
            raise CheckpointError(f"labels must name {n_cls} classes")
        labels, device = labels.to(self.values.device), self.values.device
        one_hot = F.one_hot(labels.clamp_min(0), n_cls).to(self.values.dtype)
        self.values = one_hot * (labels >= 0).unsqueeze(-1)
        self.keys = keys.to(device)


def cache_logits(
    pictures: Float[Tensor, "*replica m feature"],
    keys: Float[Tensor, "replica n feature"],
    values: Float[Tensor, "replica n n_cls"],
    *,
    alpha: float,
    beta: float,
) -> Float[Tensor, "replica m n_cls"]:
    """alpha * exp(-beta (1 - x K^T)) V (arXiv:2207.09519, eq. 4).

    Args:
        pictures: features to classify, unit norm.
        keys: the cache's features, unit norm.
        values: the cache's labels, one-hot.
        alpha: factor on the result.
        beta: how fast a key counts less the further off it is.
    """
    affinity = pictures @ keys.transpose(1, 2)
    return alpha * (beta * (affinity - 1)).exp() @ values
