"""Cross-dataset transfer: train on a source, synthesize for the target's class names, test there.

Source: arXiv:2307.07397, and CoCoOp (arXiv:2203.05557), whose source is ImageNet with 16 shots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.datasets import sentence
from ship.metrics import Answers, percent, score
from ship.protocols.base import Chosen, Exam, Final, Protocol, mask
from ship.protocols.tasks import TaskBuilder
from ship.subsets import FeatureSet, require
from ship.tasks import Pictures, Task
from ship.trial_config import TrialConfig

SOURCE = "source"


def cross_dataset(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    targets: Mapping[str, FeatureSet],
    clip: FrozenCLIP,
    dtype: torch.dtype = torch.float32,
) -> Protocol:
    """All source classes are seen; each target's further class names are unseen.

    One generator is fitted on the source; a fine-tuner is trained for each target, with features
    synthesized for its names. A target's class that the source has by the same name (in any case)
    is the source's class: it is seen, and nothing is synthesized for it. The zero-shot classifier
    of a target is in its own template throughout. Selection looks at the source alone (pseudo-new
    classes, or validation pictures), so that no picture of a target chooses anything.

    Args:
        config: the setting; what replicas do not share is not looked at.
        seeds: of each replica.
        features: of config.dataset.
        targets: of config.targets by name.
        clip: gives the classes' text features.
        dtype: of all features and losses.

    Raises:
        ValueError: no targets, or settings or a source that do not meet the demands
            (ship.subsets.require).
    """
    if not targets:
        raise ValueError("protocol cross_dataset needs targets: a list of datasets")
    require(config, features, seeds)
    n_source = len(features.class_names)
    source = np.arange(n_source)
    build = TaskBuilder(config, seeds, features, clip, dtype, seen=source)
    known = set(_keys(features))
    others = list(
        dict.fromkeys(c for t in targets.values() for c in _classes(t) if c.key not in known)
    )
    names = [(c.name, c.sentence) for c in others]
    whole = build.task(n_source, [source] * len(seeds), names)
    held_back = build.test()
    finals = tuple(
        _final(name, target, features, whole, others, build, held_back)
        for name, target in targets.items()
    )
    chosen_on = None
    if config.selection == "pseudo_new":
        chosen_on = build.pseudo_new()
    elif config.selection != "none":
        # the targets' names are there, so that the epoch is chosen on what will be trained again
        chosen_on = Exam(whole, build.validation())
    return Protocol(chosen_on, config.selection_metric, finals, _score, whole, _average)


@dataclass(frozen=True)
class _Class:
    """A target's class. Equal ones of several targets are one class of the generator's task.

    key: the name without regard to case, and which of equal names it is (ImageNet has two pairs).
    sentence: for the zero-shot classifier, from the target's own template.
    """

    key: tuple[str, int]
    name: str
    sentence: str


def _keys(features: FeatureSet) -> list[tuple[str, int]]:
    names = [name.casefold() for name in features.class_names]
    return [(name, names[:i].count(name)) for i, name in enumerate(names)]


def _classes(target: FeatureSet) -> list[_Class]:
    pairs = zip(_keys(target), target.class_names, strict=True)
    return [_Class(key, name, sentence(target.template, name)) for key, name in pairs]


def _final(
    name: str,
    target: FeatureSet,
    source: FeatureSet,
    whole: Task,
    others: Sequence[_Class],
    build: TaskBuilder,
    held_back: Pictures,
) -> Final:
    """A target's task: the source's classes, then its own; shares the source's pictures."""
    n_source, device = len(source.class_names), whole.seen.device
    place = {key: i for i, key in enumerate(_keys(source))}
    classes = _classes(target)
    own = [c for c in classes if c.key not in place]
    numbered = {c: n_source + i for i, c in enumerate(others)}
    ids = torch.tensor([*range(n_source), *(numbered[c] for c in own)], device=device)
    place |= {c.key: n_source + i for i, c in enumerate(own)}
    columns = torch.tensor([place[c.key] for c in classes], device=device)
    text_features = whole.text_features[ids]
    # its zero-shot classifier is the target's own, of the classes that the source has, too
    text_features[columns] = build.encode([c.sentence for c in classes])
    task = whole.but(
        class_names=tuple(whole.class_names[i] for i in ids.tolist()),
        text_features=text_features,
        seen=whole.seen[:, ids],
        unseen_first=whole.unseen_first[:, ids],
        unseen_count=whole.unseen_count[:, ids],
    )
    pictures = build.pictures(target.test, target.test_labels)
    pictures = Pictures(pictures.features, columns[pictures.labels])
    exams = [Exam(task, pictures, f"accuracy/{name}", mask(len(ids), columns))]
    if len(held_back.labels):
        of_source = mask(len(ids), torch.arange(n_source, device=device))
        exams.append(Exam(task, held_back, SOURCE, of_source))
    return Final(tuple(exams), ids)


def _score(answers: Answers, exam: Exam, chosen: Chosen) -> dict[str, Tensor]:
    """Of selection, as base_to_new; of the test, accuracy among the exam's names."""
    if chosen is None:
        return score(answers, exam.all_seen)
    return {exam.name: percent(answers.right, torch.ones_like(answers.right))}


def _average(found: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Each target's accuracy, their mean, and the source's mean over the targets' models."""
    by_target = {n: v for one in found for n, v in one.items() if n != SOURCE}
    source = [one[SOURCE] for one in found if SOURCE in one]
    metrics = {"accuracy": torch.stack(list(by_target.values())).mean(0), **by_target}
    return {**metrics, SOURCE: torch.stack(source).mean(0)} if source else metrics
