"""The tasks and exams of every protocol, as counts: what ship.protocols builds with pictures.

Which base classes are pseudo-new differs between seeds; counts are then means over such draws.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ship.cost.shapes import DataShape
from ship.metrics import ProtocolName
from ship.protocols import REFERENCE_AGES, most_validation
from ship.subsets import pseudo_new_classes
from ship.trial import FEWEST, MOST, MOST_IN_ALL
from ship.trial_config import LEAKING_SELECTIONS, TrialConfig


@dataclass(frozen=True)
class TaskShape:
    """What ship.tasks.task.Task is made of, for one replica.

    names: class names. sentences: those of the zero-shot classifier.
    real: expected training pictures of each class.
    held_out: expected validation pictures of each seen class.
    made: probability that the class is synthesized.
    n_made: how many classes are.
    n_nominal: pictures an epoch is made of.
    shots: pictures of a class, at most. views: 1 + augmented ones.
    """

    names: tuple[str, ...]
    sentences: tuple[str, ...]
    real: tuple[float, ...]
    held_out: tuple[float, ...]
    made: tuple[float, ...]
    n_made: int
    n_nominal: int
    shots: int
    views: int

    @property
    def n_new(self) -> int:
        """Classes without pictures: those that are synthesized, where no seen one is."""
        augmented = min(self.real) > 0 and min(self.made) == 1
        return 0 if augmented else self.n_made

    @property
    def n_real(self) -> float:
        """Training pictures."""
        return sum(self.real)


@dataclass(frozen=True)
class ExamShape:
    """Pictures that a model is measured on.

    judged: how many of them are of synthesized classes; 0: synthesis is not judged by this exam.
    per_class: synthetic features of a class that judging draws.
    """

    pictures: int
    judged: float = 0.0
    per_class: int = 0


@dataclass(frozen=True)
class PlanShape:
    """A trial's plan (see ship.protocols.Protocol).

    encoded: sentences that become zero-shot classifiers, pass by pass.
    selection: what is trained to be selected on, and what is looked at; None: nothing.
    finals: each task that is tested, and its exams.
    retrained: what the tested model's generator is fitted on; None: nothing is trained again.
    ages: of the generator that selection compares.
    """

    encoded: tuple[tuple[str, ...], ...]
    selection: tuple[TaskShape, ExamShape] | None
    finals: tuple[tuple[TaskShape, tuple[ExamShape, ...]], ...]
    retrained: TaskShape | None
    ages: int = 1


# the trial, its dataset, its targets in order
Planner = Callable[[TrialConfig, DataShape, Sequence[DataShape]], PlanShape]


class _Tasks:
    """Tasks over one dataset: ship.protocols.tasks.TaskBuilder in counts.

    seen: the first so many classes, which decide how long an epoch is.
    """

    def __init__(self, config: TrialConfig, data: DataShape, seen: int) -> None:
        self.config, self.data, self.seen = config, data, seen
        self._shots = config.shots or max(data.train)
        self._drawn = [min(count, self._shots) for count in data.train]
        self._mean_count = float(np.mean(self._drawn[:seen]))
        self._sentences = tuple(data.template.format(name) for name in data.class_names)

    def task(
        self,
        n_classes: int,
        shown: float,
        others: Iterable[tuple[str, str]] = (),
        *,
        augment: bool = False,
    ) -> TaskShape:
        """The task over the first n classes.

        Args:
            shown: how many of the `seen` classes are seen in this task.
            others: (name, sentence) of further classes without pictures.
            augment: whether seen classes are synthesized (few_shot).
        """
        others = tuple(others)
        part = shown / self.seen  # the probability that one of them is
        mixed = min(self.seen, n_classes)
        real = [part * n for n in self._drawn[:mixed]] + [0.0] * (n_classes - mixed)
        held = [part * n for n in self.data.val[:mixed]] + [0.0] * (n_classes - mixed)
        made = [1.0 if augment else 1 - part] * mixed + [1.0] * (n_classes - mixed)
        none = [0.0] * len(others)
        made += [1.0] * len(others)
        return TaskShape(
            names=self.data.class_names[:n_classes] + tuple(name for name, _ in others),
            sentences=self._sentences[:n_classes] + tuple(sentence for _, sentence in others),
            real=(*real, *none),
            held_out=(*held, *none),
            made=tuple(made),
            n_made=round(sum(made)),
            n_nominal=max(1, round(shown * self._mean_count)),
            shots=max(1, round(self._mean_count)),
            views=1 + self.config.views,
        )

    def pseudo_new(self) -> tuple[TaskShape, ExamShape]:
        """The selection task over the base classes, a part of them hidden, and its exam."""
        base = np.arange(self.seen)
        shown, _ = pseudo_new_classes(base, self.config.pseudo_new_fraction, seed=0)
        task = self.task(self.seen, len(shown))
        return task, exam(task, self.data.val[: self.seen])


def exam(task: TaskShape, pictures: Sequence[int]) -> ExamShape:
    """An exam on some pictures of each of the task's first classes; others have none."""
    total = sum(pictures)
    judged = sum(n * p for n, p in zip(pictures, task.made[: len(pictures)], strict=True))
    if not judged or not task.n_made:
        return ExamShape(total)
    per_class = round(total / sum(1 for n in pictures if n))
    least = max(2, MOST_IN_ALL // task.n_made)
    return ExamShape(total, judged, min(max(per_class, FEWEST), MOST, least))


def _two_groups(seen: int, config: TrialConfig, data: DataShape) -> PlanShape:
    tasks = _Tasks(config, data, seen)
    final = tasks.task(len(data.class_names), seen)
    tested = exam(final, data.test)
    finals = ((final, (tested,)),)
    if config.selection == "pseudo_new":
        selection = tasks.pseudo_new()
        encoded = (final.sentences, selection[0].sentences)
        return PlanShape(encoded, selection, finals, final)
    return _on_one_task(config, final, data.val[:seen], tested)


def _on_one_task(
    config: TrialConfig, task: TaskShape, val: Sequence[int], tested: ExamShape
) -> PlanShape:
    """The model that selection looks at is the one that is tested."""
    finals = ((task, (tested,)),)
    if config.selection == "none":
        return PlanShape((task.sentences,), None, finals, task)
    if config.selection in LEAKING_SELECTIONS:
        ages = REFERENCE_AGES if config.selection == "reference" else 1
        return PlanShape((task.sentences,), (task, tested), finals, None, ages)
    return PlanShape((task.sentences,), (task, exam(task, _looked_at(config, val))), finals, None)


def _looked_at(config: TrialConfig, val: Sequence[int]) -> Sequence[int]:
    """Validation pictures of each class that selection looks at."""
    most = most_validation(config)
    return val if most is None else [min(count, most) for count in val]


def _halves(config: TrialConfig, data: DataShape, targets: Sequence[DataShape]) -> PlanShape:
    return _two_groups(data.n_base, config, data)


def _single(config: TrialConfig, data: DataShape, targets: Sequence[DataShape]) -> PlanShape:
    return _two_groups(len(data.class_names) - 1, config, data)


def _few_shot(config: TrialConfig, data: DataShape, targets: Sequence[DataShape]) -> PlanShape:
    n = len(data.class_names)
    task = _Tasks(config, data, n).task(n, n, augment=True)
    tested = exam(task, data.test)
    return _on_one_task(config, task, data.val, tested)


def _cross(config: TrialConfig, data: DataShape, targets: Sequence[DataShape]) -> PlanShape:
    n = len(data.class_names)
    tasks = _Tasks(config, data, n)
    known = {name.casefold() for name in data.class_names}
    pairs = [
        [(name, t.template.format(name)) for name in t.class_names if name.casefold() not in known]
        for t in targets
    ]
    whole = tasks.task(n, n, dict.fromkeys(pair for own in pairs for pair in own))
    finals = []
    for target, own in zip(targets, pairs, strict=True):
        task = tasks.task(n, n, own)
        of_own = [
            count
            for name, count in zip(target.class_names, target.test, strict=True)
            if name.casefold() not in known
        ]
        tested = exam(task, (*[0] * n, *of_own))
        exams = [ExamShape(sum(target.test), tested.judged, tested.per_class)]
        if sum(data.test):
            exams.append(ExamShape(sum(data.test)))
        finals.append((task, tuple(exams)))
    encoded = [whole.sentences]
    encoded += [tuple(t.template.format(name) for name in t.class_names) for t in targets]
    val = _looked_at(config, data.val)
    selection = None
    if config.selection not in ("none", "pseudo_new"):
        selection = (whole, exam(whole, (*val, *[0] * (len(whole.names) - n))))
    if config.selection == "pseudo_new":
        selection = tasks.pseudo_new()
        encoded.append(selection[0].sentences)
    return PlanShape(tuple(encoded), selection, tuple(finals), whole)


PLANS: Mapping[ProtocolName, Planner] = {
    "base_to_new": _halves,
    "few_shot": _few_shot,
    "cross_dataset": _cross,
    "generalized_zero_shot": _halves,
    "single_unseen": _single,
}
