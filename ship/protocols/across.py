"""Cross-dataset transfer: train on a source, synthesize for the target's class names, test there.

Source: arXiv:2307.07397, and CoCoOp (arXiv:2203.05557), whose source is ImageNet with 16 shots.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ship.backbone import FrozenCLIP
from ship.features import FeatureSet
from ship.metrics import OBJECTIVES, SEEN_OBJECTIVES, accuracy, score
from ship.protocols.base import Exam, Final, Protocol, mask
from ship.protocols.tasks import TaskBuilder
from ship.splits import pseudo_new_classes
from ship.task import Pictures
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
    synthesized for its names. A target's class that the source has by the same name is the
    source's class: it is seen, and nothing is synthesized for it. Selection looks at the source
    alone (pseudo-new classes, or base_val), so that no picture of a target chooses anything.

    Raises:
        ValueError: no targets, a source class without training pictures, or settings that the
            protocol has no meaning for (selection test, generator real).
    """
    if not targets:
        raise ValueError("protocol cross_dataset needs targets: a list of datasets")
    if config.selection == "test" or config.generator.name == "real":
        raise ValueError("cross_dataset takes neither selection test nor generator real")
    n_source = len(features.class_names)
    source = np.arange(n_source)
    build = TaskBuilder(config.shots, seeds, features, clip, dtype, seen=source)
    everything = [source] * len(seeds)
    union = _union(features, targets)
    whole = build.task(n_source, everything, list(union.items()))
    finals = tuple(
        _final(build, name, target, features, everything, list(union))
        for name, target in targets.items()
    )
    if config.selection == "pseudo_new":
        seen = [pseudo_new_classes(source, config.pseudo_new_fraction, seed)[0] for seed in seeds]
        chosen_on = Exam(build.task(n_source, seen), build.validation(source))
        metric = OBJECTIVES["cross_dataset"][0]
    else:
        chosen_on = Exam(build.task(n_source, everything), build.validation(source))
        metric = SEEN_OBJECTIVES["cross_dataset"]
    return Protocol(chosen_on, metric, finals, _by_halves, _among_names, whole, _average)


def _union(features: FeatureSet, targets: Mapping[str, FeatureSet]) -> dict[str, str]:
    """Class name -> zero-shot sentence of every class that the source does not have."""
    found: dict[str, str] = {}
    for target in targets.values():
        for name in target.class_names:
            if name not in features.class_names:
                found.setdefault(name, target.template.format(name))
    return found


def _final(
    build: TaskBuilder,
    name: str,
    target: FeatureSet,
    source: FeatureSet,
    everything: Sequence[np.ndarray],
    union: Sequence[str],
) -> Final:
    """A target's task: the source's classes, then its own."""
    n_source = len(source.class_names)
    own = [n for n in target.class_names if n not in source.class_names]
    others = [(n, target.template.format(n)) for n in own]
    task = build.task(n_source, everything, others)
    device = task.seen.device
    place = {n: i for i, n in enumerate(task.class_names)}
    columns = torch.tensor([place[n] for n in target.class_names], device=device)
    pictures = build.pictures(target.test, target.test_labels)
    pictures = Pictures(pictures.features, columns[pictures.labels])
    n_cls = len(task.class_names)
    of_source = torch.arange(n_source, device=device)
    exams = [Exam(task, pictures, f"accuracy/{name}", mask(n_cls, columns))]
    held_back = build.test()
    if len(held_back.labels):
        exams.append(Exam(task, held_back, SOURCE, mask(n_cls, of_source)))
    numbered = {n: n_source + i for i, n in enumerate(union)}
    in_whole = torch.tensor([numbered[n] for n in own], dtype=torch.long, device=device)
    return Final(tuple(exams), torch.cat([of_source, in_whole]))


def _by_halves(logits: Tensor, exam: Exam, chosen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return score(logits, exam.pictures.labels, exam.task.seen)


def _among_names(logits: Tensor, exam: Exam, chosen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {exam.name: accuracy(logits, exam.pictures.labels, exam.competing)}


def _average(found: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Each target's accuracy, their mean, and the source's mean over the targets' models."""
    by_target = {n: v for one in found for n, v in one.items() if n != SOURCE}
    source = [one[SOURCE] for one in found if SOURCE in one]
    metrics = {"accuracy": torch.stack(list(by_target.values())).mean(0), **by_target}
    return {**metrics, SOURCE: torch.stack(source).mean(0)} if source else metrics
