"""What one seed may look at while it trains: a task without the replica dimension."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.synthesis import Synthesizer
from ship.tasks import Task


@dataclass(frozen=True)
class SeedTask:
    """A universe of classes, some seen (with pictures) and the others unseen (names only).

    Tensors are to be read, never written to.

    class_names: the universe, (n_cls,).
    text_features: zero-shot classifier from the dataset's template, (n_cls, feature).
    seen: which classes have pictures, (n_cls,).
    features: few-shot pictures of seen classes; view 0 is the picture as test pictures are seen,
        (n, 1 + views, feature).
    labels: places among the classes, (n,).
    held_out, held_out_labels: validation pictures of the seen classes, (v, feature) and (v,); for
        early stopping, never to train on.
    shots: pictures that a class has, at most.
    logit_scale: CLIP's factor on cosines.
    """

    class_names: tuple[str, ...]
    text_features: Float[Tensor, "n_cls feature"]
    seen: Bool[Tensor, " n_cls"]
    features: Float[Tensor, "n view feature"]
    labels: Int[Tensor, " n"]
    held_out: Float[Tensor, "v feature"]
    held_out_labels: Int[Tensor, " v"]
    shots: int
    logit_scale: float

    @classmethod
    def of(cls, task: Task, replica: int) -> "SeedTask":
        """One replica's part of a task."""
        n, v = task.counts[replica], task.held_out_counts[replica]
        return cls(
            class_names=task.class_names,
            text_features=task.text_features,
            seen=task.seen[replica],
            features=task.features[replica, :n],
            labels=task.labels[replica, :n],
            held_out=task.held_out[replica, :v],
            held_out_labels=task.held_out_labels[replica, :v],
            shots=task.shots,
            logit_scale=task.logit_scale,
        )


@dataclass(frozen=True)
class SyntheticSet:
    """Synthetic features of one seed: `synthetic.per_class` of each class that has no pictures.

    features: unit norm, (m, feature).
    labels: places among the task's classes, (m,).
    weights: `synthetic.weight` of each feature's loss, (m,).
    """

    features: Float[Tensor, "m feature"]
    labels: Int[Tensor, " m"]
    weights: Float[Tensor, " m"]


def synthetic_sets(synthesizer: Synthesizer | None, n_replicas: int) -> list[SyntheticSet | None]:
    """Each seed's set, drawn once for all of them."""
    if synthesizer is None:
        return [None] * n_replicas
    features, labels = synthesizer.fixed_set()
    weights = synthesizer.weights(labels)
    return [SyntheticSet(features[r], labels[r], weights[r]) for r in range(n_replicas)]
