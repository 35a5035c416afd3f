"""What a protocol hands to a trial: tasks to train on, pictures to be measured on, and how."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.metrics import Answers
from ship.tasks import Pictures, Task


@dataclass(frozen=True)
class Exam:
    """Pictures that a model trained on `task` is measured on.

    name: "" or, where a protocol has several exams, the metric that this one gives.
    competing: classes that may be predicted, (n_cls,); None: the scorer decides.
    """

    task: Task
    pictures: Pictures
    name: str = ""
    competing: Bool[Tensor, " n_cls"] | None = None

    @cached_property
    def all_seen(self) -> bool:
        """Whether every picture is of a class that every replica has seen; read once, and kept."""
        return bool(self.task.seen[:, self.pictures.labels].all())

    def answers(self, logits: Float[Tensor, "replica n n_cls"]) -> Answers:
        """What a model's logits of the pictures answer.

        Args:
            logits: class scores under each replica.
        """
        return Answers(logits, self.pictures.labels, self.task.seen, self.competing)


@dataclass(frozen=True)
class Final:
    """A task whose trained model is tested.

    exams: what it is tested on; the first is also where synthesis is judged.
    ids: each class of the task as the generator's task numbers it; None: the same numbers.
    """

    exams: tuple[Exam, ...]
    ids: Int[Tensor, " n_cls"] | None = None

    @property
    def task(self) -> Task:
        """The task that is trained on."""
        return self.exams[0].task


# What selection's metrics were at its choice, by name, (replica,) each; None while it is choosing.
Chosen = Mapping[str, Tensor] | None
# (answers to the exam, exam, chosen) -> metric -> (replica,)
Scorer = Callable[[Answers, Exam, Chosen], dict[str, Tensor]]
Combine = Callable[[Sequence[dict[str, Tensor]]], dict[str, Tensor]]


def only(found: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The metrics of a protocol with a single exam.

    Args:
        found: those of each exam, (replica,) each, by name.

    Raises:
        ValueError: there is not exactly one exam.
    """
    (metrics,) = found
    return metrics


@dataclass(frozen=True)
class Protocol:
    """A trial's plan.

    selection: the exam by which epochs are chosen, on the task trained for it; None: nothing is
        chosen (selection none), the last epoch is tested.
    metric: what selection maximises; "" where it chooses nothing.
    generator_task: what the tested model's generator is fitted on; None: no retraining, the model
        that selection kept is the tested one.
    ages: how many ages of the generator selection compares, each with a fine-tuner of its own
        (selection reference); 1: it is fitted to its end, and epochs are compared.
    finals: what is trained (again) and tested.
    score: how answers become metrics; combine: how those of several exams do.
    """

    selection: Exam | None
    metric: str
    finals: tuple[Final, ...]
    score: Scorer
    generator_task: Task | None = None
    combine: Combine = only
    ages: int = 1


def mask(n_cls: int, ids: Int[Tensor, " m"]) -> Bool[Tensor, " n_cls"]:
    """True at the given ids."""
    found = torch.zeros(n_cls, dtype=torch.bool, device=ids.device)
    found[ids] = True
    return found
