"""What one seed may look at while it trains: its own part of a task."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.tasks.task import Task


@dataclass(frozen=True)
class FixedRows:
    """Synthetic features that are drawn once, and the pictures behind them.

    features: unit norm; a synthetic feature is its own every view, (n, 1 + views, feature).
    labels: places among the task's classes, (n,).
    weights: of each one's loss: `synthetic.weight`, of a picture 1, (n,).
    """

    features: Float[Tensor, "n view feature"]
    labels: Int[Tensor, " n"]
    weights: Float[Tensor, " n"]


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
    shots: pictures that a class has, at most.
    logit_scale: CLIP's factor on cosines.
    synthetic: whether there are synthetic features of the classes that have no pictures.
    fixed: of fine-tuners whose `feed` is "fixed", what they train on.
    """

    class_names: tuple[str, ...]
    text_features: Float[Tensor, "n_cls feature"]
    seen: Bool[Tensor, " n_cls"]
    features: Float[Tensor, "n view feature"]
    labels: Int[Tensor, " n"]
    shots: int
    logit_scale: float
    synthetic: bool = False
    fixed: FixedRows | None = None

    @property
    def fixed_rows(self) -> FixedRows:
        """What a fine-tuner trains on whose `feed` is "fixed".

        Raises:
            ValueError: it is built for another one.
        """
        if self.fixed is None:
            raise ValueError("only a fine-tuner whose feed is fixed has rows when it is built")
        return self.fixed

    @classmethod
    def of(
        cls, task: Task, replica: int, *, synthetic: bool = False, fixed: FixedRows | None = None
    ) -> "SeedTask":
        """One replica's part of a task."""
        n = task.counts[replica]
        return cls(
            class_names=task.class_names,
            text_features=task.text_features,
            seen=task.seen[replica],
            features=task.features[replica, :n],
            labels=task.labels[replica, :n],
            shots=task.shots,
            logit_scale=task.logit_scale,
            synthetic=synthetic,
            fixed=fixed,
        )
