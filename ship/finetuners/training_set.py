"""What fine-tuners train on: rows, and steps over them.

Those that train step by step have a task's pictures as rows, and each step has its own synthetic
features behind them (synthetic.ratio, .draw, .weight). For caches and closed forms synthetic
features are drawn once, and are rows like pictures (synthetic.per_class, .weight).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.synthesis import Synthesizer
from ship.tasks import FixedRows, Task
from ship.training import (
    Batch,
    BatchStream,
    Part,
    ReplicaRng,
    gather_rows,
    random_views,
    steps_per_epoch,
)
from ship.transfer import sent


@dataclass(frozen=True)
class TrainingSet:
    """Synthetic rows first, then the (padded) real ones: what replica r uses is a prefix.

    features: every row in all views (a synthetic feature is its own every view),
        (replica, n, 1 + views, feature).
    labels: (replica, n).
    weights: of each row's loss: synthetic.weight, of a picture 1, (replica, n).
    counts: rows in use, per replica.
    n_nominal: rows of an epoch, the same for every replica.
    weighted: whether a weight is another than 1.
    """

    features: Float[Tensor, "replica n view feature"]
    labels: Int[Tensor, "replica n"]
    weights: Float[Tensor, "replica n"]
    counts: tuple[int, ...]
    n_nominal: int
    weighted: bool

    def of(self, replica: int) -> FixedRows:
        """Those of one replica, without padding."""
        n = self.counts[replica]
        return FixedRows(
            self.features[replica, :n], self.labels[replica, :n], self.weights[replica, :n]
        )


def training_set(task: Task, synthesizer: Synthesizer | None) -> TrainingSet:
    """The task's pictures, and behind a synthesizer `per_class` features of each class it makes."""
    real, n_real = task.features, task.n_nominal
    weights = torch.ones_like(real[:, :, 0, 0])
    if synthesizer is None:
        return TrainingSet(real, task.labels, weights, task.counts, n_real, weighted=False)
    made, labels = synthesizer.fixed_set()
    n = made.shape[1]
    made = made.unsqueeze(2).expand(-1, -1, real.shape[2], -1)
    return TrainingSet(
        torch.cat([made, real], dim=1),
        torch.cat([labels, task.labels], dim=1),
        torch.cat([synthesizer.weights(labels).to(weights), weights], dim=1),
        tuple(n + count for count in task.counts),
        n + n_real,
        synthesizer.weighted,
    )


class TrainingStream:
    """Steps over rows, a random view of each.

    steps: of an epoch, which is one pass over the rows.
    """

    def __init__(
        self,
        rows: TrainingSet,
        synthesizer: Synthesizer | None,
        seeds: Sequence[int],
        batch_size: int,
        purpose: str,
    ) -> None:
        """Begin the streams.

        Args:
            rows: that an epoch passes over.
            synthesizer: of features that stand behind each step's rows; None: there are none.
            seeds: of each replica.
            batch_size: rows of a step, unless there are fewer.
            purpose: names the streams.
        """
        self._rows = rows
        self._synthesizer = synthesizer
        self._batches = BatchStream(rows.counts, ReplicaRng(seeds, f"{purpose}/batches"))
        self._views = ReplicaRng(seeds, f"{purpose}/views", rows.features.device)
        self._batch_size = min(batch_size, rows.n_nominal)
        self.steps = steps_per_epoch(rows.n_nominal, self._batch_size)

    def next(self) -> Batch:
        """A step's features, labels and the weight of each one's loss (None: all 1)."""
        places = sent(self._batches.next(self._batch_size), self._rows.features.device)
        features = random_views(self._rows.features, places, self._views)
        labels = gather_rows(self._rows.labels, places)
        if self._synthesizer is not None:
            return self._synthesizer.join(features, labels)
        # weights of 1 are left out: the plain mean's rounding is that of a run without weights
        weights = gather_rows(self._rows.weights, places) if self._rows.weighted else None
        return features, labels, weights

    def parts(self) -> Mapping[str, Part]:
        """Where the streams are."""
        return {
            "batches": self._batches,
            "views": self._views,
            "synthesizer": self._synthesizer or {},
        }
