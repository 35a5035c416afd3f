"""Protocols within one dataset: base-to-new, few-shot, generalized zero-shot, one unseen class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

import numpy as np
import torch
from torch import Tensor

from ship.backbone import FrozenCLIP
from ship.calibration import score_one_softmax
from ship.features import FeatureSet
from ship.metrics import OBJECTIVES, SEEN_OBJECTIVES, score
from ship.protocols.base import Exam, Final, Protocol, Scorer, among_all
from ship.protocols.tasks import TaskBuilder
from ship.splits import pseudo_new_classes
from ship.trial_config import TrialConfig

Targets = Mapping[str, FeatureSet]
Build = Callable[
    [TrialConfig, Sequence[int], FeatureSet, Targets, FrozenCLIP, torch.dtype], Protocol
]


def base_to_new(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    targets: Targets,
    clip: FrozenCLIP,
    dtype: torch.dtype = torch.float32,
) -> Protocol:
    """Base-to-new generalisation (CoCoOp, arXiv:2203.05557), with selection that leaks nothing.

    Base are the officially seen classes where the dataset has such a split, else the first
    ceil(n/2). Base and new accuracy are each among their own classes; joint ones among all.

    Raises:
        ValueError: too few classes, or a base class without training pictures.
    """
    return _two_groups(config, seeds, features, clip, dtype, _by_halves)


def generalized_zero_shot(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    targets: Targets,
    clip: FrozenCLIP,
    dtype: torch.dtype = torch.float32,
) -> Protocol:
    """Generalized zero-shot (Xian et al., arXiv:1707.00600): one softmax, per-class averages.

    The same groups as in base_to_new; what differs is how predictions are counted, and that the
    constant of calibrated stacking is chosen along with the epoch.

    Raises:
        ValueError: too few classes, or a seen class without training pictures.
    """
    return _two_groups(config, seeds, features, clip, dtype, _by_one_softmax)


def single_unseen(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    targets: Targets,
    clip: FrozenCLIP,
    dtype: torch.dtype = torch.float32,
) -> Protocol:
    """All classes but one are seen; counted as in generalized_zero_shot.

    Raises:
        ValueError: `unseen_class` is no class of the dataset, or too few classes.
    """
    alone = _with_class_last(features, config.unseen_class)
    return _two_groups(config, seeds, alone, clip, dtype, _by_one_softmax)


def few_shot(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    targets: Targets,
    clip: FrozenCLIP,
    dtype: torch.dtype = torch.float32,
) -> Protocol:
    """Few-shot classification (CoOp, arXiv:2109.01134): every class is trained on and tested.

    Synthetic features, if any, are of the same classes: more pictures, as it were.

    Raises:
        ValueError: a class without training pictures.
    """
    everything = np.arange(len(features.class_names))
    build = TaskBuilder(config.shots, seeds, features, clip, dtype, seen=everything)
    task = build.task(len(everything), [everything] * len(seeds))
    test = Exam(task, build.test())
    chosen_on = test if config.selection == "test" else Exam(task, build.validation(everything))
    return Protocol(chosen_on, "accuracy", (Final((test,)),), among_all, among_all)


def _by_halves(logits: Tensor, exam: Exam, chosen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return score(logits, exam.pictures.labels, exam.task.seen)


def _by_one_softmax(logits: Tensor, exam: Exam, chosen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = score_one_softmax(
        logits, exam.pictures.labels, exam.task.seen, chosen.get("calibration")
    )
    if "calibration" in chosen or not chosen:
        return found
    # selection saw no unseen class (base_val): there is no constant to calibrate with
    return {name: value for name, value in found.items() if not name.startswith("calibrat")}


def _two_groups(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    dtype: torch.dtype,
    scorer: Scorer,
) -> Protocol:
    """Seen and unseen classes of one dataset.

    selection "pseudo_new" hides a seeded fraction of the seen classes, trains on the rest, and
    looks at validation pictures of both; the tested model is then retrained on all seen classes.
    "base_val" looks at validation pictures of seen classes. "test" looks at the test pictures
    themselves, as the reference code does.
    """
    n_classes = len(features.class_names)
    n_base = features.n_base
    if not 0 < n_base < n_classes:
        raise ValueError(f"dataset {features.dataset}: needs at least 2 classes, has {n_classes}")
    base = np.arange(n_base)
    build = TaskBuilder(config.shots, seeds, features, clip, dtype, seen=base)
    if config.generator.name == "real":
        build.require_unseen_pictures(np.arange(n_base, n_classes))
    final = build.task(n_classes, [base] * len(seeds))
    test = Exam(final, build.test())
    finals = (Final((test,)),)
    name = config.protocol
    if config.selection == "pseudo_new":
        seen = [pseudo_new_classes(base, config.pseudo_new_fraction, seed)[0] for seed in seeds]
        chosen_on = Exam(build.task(n_base, seen), build.validation(base))
        return Protocol(chosen_on, OBJECTIVES[name][0], finals, scorer, scorer, final)
    if config.selection == "test":
        return Protocol(test, OBJECTIVES[name][0], finals, scorer, scorer)
    chosen_on = Exam(final, build.validation(base))
    return Protocol(chosen_on, SEEN_OBJECTIVES[name], finals, scorer, scorer)


def _with_class_last(features: FeatureSet, name: str | None) -> FeatureSet:
    """The same dataset with one class numbered last, the others seen."""
    names = features.class_names
    if name is not None and name not in names:
        near = ", ".join(get_close_matches(name, names, n=3)) or ", ".join(names[:3])
        raise ValueError(
            f"unseen_class must be a class of {features.dataset}, got {name!r} (nearest: {near})"
        )
    last = len(names) - 1 if name is None else names.index(name)
    order = [c for c in range(len(names)) if c != last] + [last]
    place = np.argsort(order)
    return replace(
        features,
        class_names=tuple(names[c] for c in order),
        train_labels=place[features.train_labels],
        val_labels=place[features.val_labels],
        test_labels=place[features.test_labels],
        n_seen=len(names) - 1,
    )
