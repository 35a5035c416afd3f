"""What a trial of the paper's grid is trained and tested on, in expectation: sizes, no pictures.

Which base classes are pseudo-new differs between seeds; counts are then means over such draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ship.subsets import pseudo_new_classes
from ship.trial import FEWEST, MOST, MOST_IN_ALL
from ship.trial_config import TrialConfig


@dataclass(frozen=True)
class DataShape:
    """A dataset as a trial studies it.

    class_names, template: what prompts are made of.
    train, val, test: pictures of each class.
    n_base: how many classes, the first ones, are base.
    """

    class_names: tuple[str, ...]
    template: str
    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    n_base: int


@dataclass(frozen=True)
class TaskShape:
    """A task of one replica.

    names: class names.
    real: expected training pictures of each class.
    made: probability that the class is synthesized; n_made: how many classes are.
    n_nominal: pictures an epoch is made of.
    """

    names: tuple[str, ...]
    real: tuple[float, ...]
    made: tuple[float, ...]
    n_made: int
    n_nominal: int


@dataclass(frozen=True)
class ExamShape:
    """Pictures that a model is measured on.

    judged: how many of them are of synthesized classes.
    per_class: synthetic features of a class that judging draws.
    """

    pictures: int
    judged: float
    per_class: int


Examined = tuple[TaskShape, ExamShape]


def selected_and_tested(config: TrialConfig, data: DataShape) -> tuple[Examined, Examined]:
    """What selection trains and looks at, and what is tested, under base_to_new and pseudo_new."""
    base = np.arange(data.n_base)
    shown, _ = pseudo_new_classes(base, config.pseudo_new_fraction, seed=0)
    selected = _task(config, data, data.n_base, len(shown))
    tested = _task(config, data, len(data.class_names), data.n_base)
    return (
        (selected, _exam(selected, data.val[: data.n_base])),
        (tested, _exam(tested, data.test)),
    )


def _task(config: TrialConfig, data: DataShape, n_classes: int, shown: int) -> TaskShape:
    """The task over the first n classes, some of whose base classes are seen."""
    drawn = [min(count, config.shots or count) for count in data.train]
    part = shown / data.n_base  # the probability that a base class is
    rest = n_classes - data.n_base
    made = (*[1 - part] * data.n_base, *[1.0] * rest)
    return TaskShape(
        names=data.class_names[:n_classes],
        real=(*(part * n for n in drawn[: data.n_base]), *[0.0] * rest),
        made=made,
        n_made=round(sum(made)),
        n_nominal=max(1, round(shown * float(np.mean(drawn[: data.n_base])))),
    )


def _exam(task: TaskShape, pictures: Sequence[int]) -> ExamShape:
    """An exam on some pictures of each of the task's classes."""
    total = sum(pictures)
    judged = sum(n * made for n, made in zip(pictures, task.made, strict=True))
    per_class = round(total / sum(1 for n in pictures if n))
    least = max(2, MOST_IN_ALL // task.n_made)
    return ExamShape(total, judged, min(max(per_class, FEWEST), MOST, least))
