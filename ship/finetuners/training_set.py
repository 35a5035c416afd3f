"""What feature-based fine-tuners train on.

Those that train step by step take a TrainingStream: each step has its own synthetic features
(synthetic.ratio, .draw, .weight). Caches and closed forms take a FixedSet: synthetic features drawn
once (synthetic.per_class, .weight).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import Batch, BatchStream, Part, ReplicaRng, steps_per_epoch


class TrainingStream:
    """Steps over a task's pictures, a random view of each, with synthetic features behind them.

    steps: steps of an epoch, which is one pass over the real pictures.
    allowed: classes that the loss runs over; None: all of them (their features are synthesized).
    """

    def __init__(
        self,
        task: Task,
        synthesizer: Synthesizer | None,
        seeds: Sequence[int],
        batch_size: int,
        purpose: str,
    ) -> None:
        self._task = task
        self._synthesizer = synthesizer
        self._batches = BatchStream(task.counts, ReplicaRng(seeds, f"{purpose}/batches"))
        self._views = ReplicaRng(seeds, f"{purpose}/views", task.features.device)
        self._batch_size = min(batch_size, task.n_nominal)
        self.steps = steps_per_epoch(task.n_nominal, self._batch_size)
        self.allowed: Bool[Tensor, "replica n_cls"] | None = None if synthesizer else task.seen

    def next(self) -> Batch:
        """A step's features, labels and the weight of each one's loss (None: all 1)."""
        rows = self._batches.next(self._batch_size)
        features, labels = self._task.batch(rows, self._views)
        if self._synthesizer is None:
            return features, labels, None
        return self._synthesizer.join(features, labels)

    def parts(self) -> Mapping[str, Part]:
        """Where the streams are."""
        return {
            "batches": self._batches,
            "views": self._views,
            "synthesizer": self._synthesizer or {},
        }


@dataclass(frozen=True)
class FixedSet:
    """Synthetic rows first, then the (padded) real ones: what replica r uses is a prefix.

    features: every row in all views (a synthetic feature is its own every view),
        (replica, n, 1 + views, feature).
    labels: (replica, n).
    weights: synthetic.weight of synthetic rows, 1 of real ones, 0 of padding, (replica, n).
    counts: rows in use, per replica.
    n_synthetic: how many of them are synthetic, the same for every replica.
    """

    features: Float[Tensor, "replica n view feature"]
    labels: Int[Tensor, "replica n"]
    weights: Float[Tensor, "replica n"]
    counts: tuple[int, ...]
    n_synthetic: int

    @property
    def used(self) -> Bool[Tensor, "replica n"]:
        """Which rows are not padding."""
        return _used(self.labels, self.counts)


def _used(labels: Tensor, counts: Sequence[int]) -> Tensor:
    places = torch.arange(labels.shape[1], device=labels.device)
    return places < torch.tensor(counts, device=labels.device).unsqueeze(1)


def fixed_set(task: Task, synthesizer: Synthesizer | None) -> FixedSet:
    """The task's pictures, and behind a synthesizer `per_class` features of each class it makes."""
    real = task.features
    weights = _used(task.labels, task.counts).to(real.dtype)
    if synthesizer is None:
        return FixedSet(real, task.labels, weights, task.counts, 0)
    made, made_labels = synthesizer.fixed_set()
    n = made.shape[1]
    made = made.unsqueeze(2).expand(-1, -1, real.shape[2], -1)
    made_weights = synthesizer.weights(made_labels).to(weights)
    return FixedSet(
        torch.cat([made, real], dim=1),
        torch.cat([made_labels, task.labels], dim=1),
        torch.cat([made_weights, weights], dim=1),
        tuple(n + count for count in task.counts),
        n,
    )
