"""Protocols: which classes and pictures a trial trains on, is selected on, and is tested on.

What sets them apart, ship.requirements says.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.datasets.base import spoken
from ship.metrics import Answers, open_world, percent, score, score_one_softmax
from ship.requirements import PROTOCOLS, require
from ship.subsets import FeatureSet, pseudo_new_classes
from ship.tasks import Pictures, Task, TaskMaker
from ship.templates import written
from ship.trial_config import LEAKING_SELECTIONS, ProtocolName, TrialConfig

# SHIP's authors retrain CoOp at five ages of the generator (github.com/mrflogs/SHIP, run_coop).
REFERENCE_AGES = 5
# The metric of the source's test pictures under cross_dataset.
SOURCE = "source"

# What selection's metrics were at its choice, by name, (replica,) each; None while it is choosing.
Chosen = Mapping[str, Tensor] | None


@dataclass(frozen=True)
class Exam:
    """Pictures that a model trained on `task` is measured on.

    name: "" or, where a protocol has several exams, the metric that this one gives.
    competing: classes that may be predicted, (n_cls,); None: how answers are scored decides.
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


# The exams that one trained model takes, all of the task that it was trained on. Synthetic features
# are judged by the pictures of the first.
FinalExams: TypeAlias = tuple[Exam, ...]


@dataclass(frozen=True)
class Protocol:
    """A trial's plan.

    name: decides how answers are counted.
    selection: the exam by which epochs are chosen, on the task trained for it; None: nothing is
        chosen (selection none), the last epoch is tested.
    metric: what selection maximises; "" where it chooses nothing.
    finals: what is trained (again) and tested.
    generator_task: what the tested model's generator is fitted on; None: no retraining, the model
        that selection kept is the tested one.
    ages: how many ages of the generator selection compares, each with a fine-tuner of its own
        (selection reference); 1: it is fitted to its end, and epochs are compared.
    """

    name: ProtocolName
    selection: Exam | None
    metric: str
    finals: tuple[FinalExams, ...]
    generator_task: Task | None
    ages: int

    def score(self, answers: Answers, exam: Exam, chosen: Chosen) -> dict[str, Tensor]:
        """Metrics of the answers to an exam, (replica,) each, in percent."""
        if self.name in ("generalized_zero_shot", "single_unseen"):
            constant = None if chosen is None else chosen.get("calibration")
            found = score_one_softmax(answers, exam.all_seen, constant)
            if chosen is None or constant is not None:
                return found
            # selection saw no unseen class, or nothing at all: no constant to calibrate with
            return {name: value for name, value in found.items() if not name.startswith("calibrat")}
        if self.name == "few_shot" or exam.name:
            everything = torch.ones_like(answers.right)
            return {exam.name or "accuracy": percent(answers.right, everything)}
        found = score(answers, exam.all_seen)
        return found if chosen is None else found | open_world(answers)

    def combine(self, found: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The metrics of all exams of a test.

        Those of the one exam; under cross_dataset each target's accuracy, their mean, and the
        source's mean over the targets' models.

        Args:
            found: those of each exam, (replica,) each, by name.
        """
        if self.name != "cross_dataset":
            return found[0]
        by_target = {n: v for one in found for n, v in one.items() if n != SOURCE}
        source = [one[SOURCE] for one in found if SOURCE in one]
        metrics = {"accuracy": torch.stack(list(by_target.values())).mean(0), **by_target}
        return {**metrics, SOURCE: torch.stack(source).mean(0)} if source else metrics


def build_protocol(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    targets: Mapping[str, FeatureSet],
    clip: FrozenCLIP,
    dtype: torch.dtype = torch.float32,
) -> Protocol:
    """The plan of a trial: the seen classes are a dataset's first ones, the others are unseen.

    Selection "pseudo_new" hides a seeded fraction of the seen classes, trains on the rest, and
    looks at validation pictures of both; the tested model is then retrained on all seen classes.
    The others train on all seen classes once (cross_dataset: again for each target). "base_val"
    looks at validation pictures of the seen classes, "few_val" at a few of them, "none" at nothing:
    its model is that of the last epoch. "test" looks at the test pictures after each epoch.
    "reference" looks at them as SHIP's authors do: a fine-tuner is trained to its end for each of
    five ages of the generator, and the age that does best on the test pictures is reported.

    Args:
        config: the setting.
        seeds: of each replica.
        features: of config.dataset, as studied_classes leaves it.
        targets: of config.targets by name, under cross_dataset.
        clip: gives the classes' text features.
        dtype: of all features and losses.

    Raises:
        ValueError: no targets, or settings or a dataset that do not meet the demands
            (ship.requirements.require).
    """
    rules, selection = PROTOCOLS[config.protocol], config.selection
    if rules.targets and not targets:
        raise ValueError("protocol cross_dataset needs targets: a list of datasets")
    require(config, features, seeds)
    seen = np.arange(rules.n_seen(features))
    tasks = TaskMaker(config, seeds, features, clip, dtype, seen)
    others = _other_classes(config, features, targets.values()) if rules.targets else {}
    names = [(other.name, other.sentences) for other in others]
    augment = not (rules.new_classes or rules.targets)
    task = tasks.task(len(features.class_names), [seen] * len(seeds), names, augment=augment)
    test = Exam(task, tasks.pictures(features.test, features.test_labels))
    finals: tuple[FinalExams, ...] = ((test,),)
    if rules.targets:
        finals = tuple(_final(name, t, tasks, test, others) for name, t in targets.items())
    chosen_on: Exam | None = None
    if selection in LEAKING_SELECTIONS:
        chosen_on = test
    elif selection == "pseudo_new":
        shown = [pseudo_new_classes(seen, config.pseudo_new_fraction, seed)[0] for seed in seeds]
        chosen_on = Exam(tasks.task(len(seen), shown), tasks.validation(seen))
    elif selection != "none":
        # the targets' names are there, so that the epoch is chosen on what will be trained again
        chosen_on = Exam(task, tasks.validation(seen, few=selection == "few_val"))
    retrained = rules.targets or selection in ("pseudo_new", "none")
    return Protocol(
        config.protocol,
        chosen_on,
        config.selection_metric,
        finals,
        generator_task=task if retrained else None,
        ages=REFERENCE_AGES if selection == "reference" else 1,
    )


class _Class(NamedTuple):
    """A target's class. Equal ones of several targets are one class of the generator's task.

    key: the name as CLIP reads it, and which of equal names it is (ImageNet has two pairs).
    sentences: for the zero-shot classifier, from the dataset's templates.
    """

    key: tuple[str, int]
    name: str
    sentences: tuple[str, ...]


def _classes(config: TrialConfig, features: FeatureSet) -> list[_Class]:
    names = [spoken(name) for name in features.class_names]
    keys = [(name, names[:i].count(name)) for i, name in enumerate(names)]
    own = written(config.templates_for(features.dataset, features.template), features.class_names)
    found = zip(keys, features.class_names, own, strict=True)
    return [_Class(key, name, tuple(sentences)) for key, name, sentences in found]


def _other_classes(
    config: TrialConfig, source: FeatureSet, targets: Iterable[FeatureSet]
) -> dict[_Class, int]:
    """The targets' classes that the source does not have, numbered behind the source's own.

    A class that the source has by the same name (the same to CLIP) is the source's class: it is
    seen, and nothing is synthesized for it.
    """
    known = {own.key for own in _classes(config, source)}
    others = dict.fromkeys(c for t in targets for c in _classes(config, t) if c.key not in known)
    return {other: len(known) + place for place, other in enumerate(others)}


def _final(
    name: str, target: FeatureSet, tasks: TaskMaker, test: Exam, others: Mapping[_Class, int]
) -> FinalExams:
    """A target's task: the source's classes, then its own; shares the source's pictures.

    Args:
        name: of the target.
        target: the dataset.
        tasks: of the source.
        test: the source's, on the generator's task.
        others: as that task numbers them.
    """
    whole, device = test.task, test.task.seen.device
    classes, source = (_classes(tasks.config, features) for features in (target, tasks.features))
    own = {c.key: i for i, c in enumerate(source)}
    numbers = [own[c.key] if c.key in own else others[c] for c in classes]
    numbered = [*range(len(own)), *(number for number in numbers if number >= len(own))]
    place = {number: i for i, number in enumerate(numbered)}
    ids = torch.tensor(numbered, device=device)
    columns = torch.tensor([place[number] for number in numbers], device=device)
    text_features = whole.text_features[ids]
    # its zero-shot classifier is the target's own, of the classes that the source has, too
    text_features[columns] = tasks.encode([c.sentences for c in classes])
    task = replace(
        whole,
        class_names=tuple(whole.class_names[number] for number in numbered),
        text_features=text_features,
        seen=whole.seen[:, ids],
        generator_ids=ids,
    )
    places = torch.arange(len(ids), device=device)
    pictures = tasks.pictures(target.test, target.test_labels)
    pictures = Pictures(pictures.features, columns[pictures.labels])
    exams = [Exam(task, pictures, f"accuracy/{name}", torch.isin(places, columns))]
    if len(test.pictures.labels):
        exams.append(Exam(task, test.pictures, SOURCE, places < len(own)))
    return tuple(exams)
