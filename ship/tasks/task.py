"""A task: what the fused replicas of a trial may look at while they train."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.training import ReplicaRng, gather_rows, random_views
from ship.transfer import sent


class WhenRead:
    """A tensor of a Task that may be given as a function, which is called when it is first read.

    Few methods read it: what none reads takes no memory on the device.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, task: Any, owner: type) -> Tensor:
        if task is None:
            raise AttributeError(f"{self._name} has no default")  # a dataclass asks for one
        held: Tensor | Callable[[], Tensor] = vars(task)[self._name]
        made = held if isinstance(held, Tensor) else held()
        vars(task)[self._name] = made
        return made

    def __set__(self, task: Any, value: Tensor | Callable[[], Tensor]) -> None:
        vars(task)[self._name] = value


@dataclass(frozen=True)
class Task:
    """A universe of classes, some seen (with pictures) and the others unseen (names only).

    Rows of replicas are padded to the longest; `counts` says how many are real. Which classes are
    seen may differ between replicas (pseudo-new classes are drawn by seed), how many may not.

    class_names: the universe, (n_cls,).
    text_features: zero-shot classifier from the dataset's template, (n_cls, feature).
    seen: (replica, n_cls).
    features: few-shot pictures of seen classes, in all views, (replica, n, 1 + views, feature).
    labels: (replica, n).
    counts: real rows of features, per replica.
    n_nominal: pictures an epoch is made of; the same for all seeds of a setting.
    shots: pictures that a class has, at most.
    logit_scale: CLIP's factor on cosines.
    unseen_features, unseen_first, unseen_count: pictures of unseen classes and where each class's
        rows begin; for the real-picture ceiling alone, nothing else may read them.
    held_out, held_out_labels, held_out_counts: validation pictures of the seen classes, padded like
        `features`; for early stopping, never to train on.
    augment: synthetic features are of the seen classes, beside their pictures (few_shot).
    """

    class_names: tuple[str, ...]
    text_features: Float[Tensor, "n_cls feature"]
    seen: Bool[Tensor, "replica n_cls"]
    features: Float[Tensor, "replica n view feature"]
    labels: Int[Tensor, "replica n"]
    counts: tuple[int, ...]
    n_nominal: int
    shots: int
    logit_scale: float
    unseen_first: Int[Tensor, "replica n_cls"]
    unseen_count: Int[Tensor, "replica n_cls"]
    held_out_labels: Int[Tensor, "replica v"]
    held_out_counts: tuple[int, ...]
    unseen_features: Any = WhenRead()  # as it is read: (replica, m, view, feature)
    held_out: Any = WhenRead()  # (replica, v, feature)
    augment: bool = False

    def but(self, **changes: Any) -> "Task":
        """The task with some fields replaced; what was not read of it yet is not read for that."""
        return Task(**{**vars(self), **changes})

    @property
    def n_replicas(self) -> int:
        """Seeds that are trained side by side."""
        return len(self.seen)

    @property
    def unseen_ids(self) -> Int[Tensor, "replica n_unseen"]:
        """Class ids without pictures, ascending."""
        ids: Tensor = (~self.seen).nonzero()[:, 1]
        return ids.reshape(self.n_replicas, -1)

    @property
    def synthesized_ids(self) -> Int[Tensor, "replica n_made"]:
        """Classes to synthesize: the unseen ones; under `augment` all of them."""
        if self.augment:
            everything = torch.arange(len(self.class_names), device=self.seen.device)
            return everything.expand(self.n_replicas, -1)
        return self.unseen_ids

    def batch(
        self, rows: Int[Tensor, "replica n"], views: ReplicaRng
    ) -> tuple[Float[Tensor, "replica n feature"], Int[Tensor, "replica n"]]:
        """Features (a random view of each picture) and labels of the given rows."""
        rows = sent(rows, self.features.device)
        return random_views(self.features, rows, views), gather_rows(self.labels, rows)


@dataclass(frozen=True)
class Pictures:
    """Pictures to be classified: features (n, feature), labels within the task's universe (n,)."""

    features: Float[Tensor, "n feature"]
    labels: Int[Tensor, " n"]


def pad_rows(rows: Sequence[Tensor]) -> Tensor:
    """Stack (n_i, ...) tensors into (replica, max n_i, ...), zeros behind each."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
