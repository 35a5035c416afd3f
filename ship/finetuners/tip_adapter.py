"""Tip-Adapter (arXiv:2207.09519): a key-value cache of features beside the zero-shot classifier.

logits = logit_scale * x W^T + alpha * exp(-beta (1 - x K^T)) V. Keys K are few-shot features (mean
over views), values V their one-hot labels. Synthetic features of unseen classes join the cache as
further keys; in -F they are also training data for the keys. alpha and beta are chosen on the
selection split. The official code (github.com/gaopengcuhk/Tip-Adapter) chooses them on validation
features, on ImageNet on test; everywhere -F's epoch is the best on test, and the better of the two
accuracies on test is reported.

Of `synthetic`, per_class says how many keys a class gets. They are drawn once, whatever `draw`
says, and -F trains on these cached features; weight weighs their loss in -F and nothing else;
ratio has no meaning here.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import TipAdapterConfig, TipAdapterFConfig
from ship.finetuners.base import classification_loss
from ship.finetuners.cache import Cache, cache_logits
from ship.finetuners.training_set import FixedSet, fixed_set
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import (
    Batch,
    BatchStream,
    CosineDescent,
    Part,
    ReplicaOptimizer,
    ReplicaRng,
    gather_rows,
    random_views,
    steps_per_epoch,
)
from ship.transfer import sent

# Tried on the selection split beside the configured pair; 0: the cache ignored.
ALPHAS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
BETAS = (1.0, 2.0, 5.5, 10.0)


def _choices(alpha: float, beta: float, search: bool) -> tuple[Mapping[str, float], ...]:
    """The configured pair first, so that it wins a tie; then the grid."""
    pairs = [(alpha, beta)]
    if search:
        pairs += [(a, b) for a in ALPHAS for b in BETAS if a > 0]
        pairs.append((0.0, beta))
    return tuple({"alpha": a, "beta": b} for a, b in dict.fromkeys(pairs))


def _mean_weight(rows: FixedSet) -> Float[Tensor, " replica"]:
    """Mean weight of the rows in use."""
    return rows.weights.sum(1) / rows.weights.new_tensor(rows.counts)


class TipAdapter:
    """The training-free cache, R replicas of it; synthetic.weight has no say in it."""

    epochs = 0

    def __init__(
        self,
        config: TipAdapterConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self._task = task
        self._cache = Cache(fixed_set(task, synthesizer), len(task.class_names))
        self.choices = _choices(config.alpha, config.beta, config.search)

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Nothing to train."""
        return {}

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """Zero-shot logits plus the cache's."""
        zero_shot = self._task.zero_shot_logits(pictures)
        return zero_shot + cache_logits(pictures, self._cache.keys, self._cache.values, **choice)

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing is trained."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing is trained."""

    def learned(self) -> Mapping[str, Part]:
        """The cache."""
        return {"cache": self._cache}

    def parts(self) -> Mapping[str, Part]:
        """Nothing is trained."""
        return {}


class TipAdapterF:
    """The cache with trained keys, R replicas of it."""

    def __init__(
        self,
        config: TipAdapterFConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self.config = config
        self._task = task
        self._rows = fixed_set(task, synthesizer)
        self._cache = Cache(self._rows, len(task.class_names))
        self._seen_only = None if synthesizer else task.seen
        self._mean_weight = _mean_weight(self._rows)
        # weights of 1 are left out: the plain mean's rounding is that of a run without weights
        self._weighted = synthesizer is not None and synthesizer.weighted
        self.choices = _choices(config.alpha, config.beta, config.search)
        self._cache.keys.requires_grad_()
        self._batches = BatchStream(self._rows.counts, ReplicaRng(seeds, "tip/batches"))
        self._views = ReplicaRng(seeds, "tip/views", clip.device)
        n_nominal = task.n_nominal + self._rows.n_synthetic
        self._batch_size = min(config.batch_size, n_nominal)
        steps = steps_per_epoch(n_nominal, self._batch_size)
        optimizer = ReplicaOptimizer(torch.optim.AdamW, [self.keys], config.lr, eps=1e-4)
        self._descent = CosineDescent(optimizer, config.epochs, steps)

    @property
    def keys(self) -> Float[Tensor, "replica n feature"]:
        """The keys, as far as they have been trained."""
        return self._cache.keys

    @property
    def epochs(self) -> int:
        """Training epochs."""
        return self.config.epochs

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """One pass over the cache's rows, a random view of each."""
        return {"loss": self._descent.epoch(self._batch, lambda *batch: [self.loss(*batch)])}

    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None,
    ) -> Float[Tensor, " replica"]:
        """Cross-entropy of zero-shot plus cached logits at the configured alpha and beta.

        With weights: mean of weight * loss over the rows, divided by the whole set's mean weight,
        so that a row counts the same whichever batch it falls into.

        Args:
            features: a batch, unit norm.
            labels: of each feature, places among the task's classes.
            weights: of each feature's loss; None: all 1.
        """
        cached = cache_logits(
            features, self.keys, self._cache.values, alpha=self.config.alpha, beta=self.config.beta
        )
        logits = self._task.zero_shot_logits(features) + cached
        loss = classification_loss(logits, labels, self._seen_only, weights)
        if weights is None:
            return loss
        return loss * weights.mean(1) / self._mean_weight

    def _batch(self) -> Batch:
        rows = sent(self._batches.next(self._batch_size), self.keys.device)
        features = random_views(self._rows.features, rows, self._views)
        weights = gather_rows(self._rows.weights, rows) if self._weighted else None
        return features, gather_rows(self._rows.labels, rows), weights

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """Zero-shot logits plus the cache's, with trained keys."""
        zero_shot = self._task.zero_shot_logits(pictures)
        return zero_shot + cache_logits(pictures, self.keys, self._cache.values, **choice)

    def state_dict(self) -> dict[str, Tensor]:
        """The keys."""
        return {"keys": self.keys.detach().clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put the keys back."""
        with torch.no_grad():
            self.keys.copy_(state["keys"])

    def learned(self) -> Mapping[str, Part]:
        """The cache."""
        return {"cache": self._cache}

    def parts(self) -> Mapping[str, Part]:
        """The keys, their training, and where its streams are."""
        return {
            "keys": self.keys,
            "descent": self._descent,
            "batches": self._batches,
            "views": self._views,
        }
