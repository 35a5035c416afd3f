"""Protocols within one dataset: base-to-new, few-shot, generalized zero-shot, one unseen class."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.metrics import Answers, open_world, percent, score, score_one_softmax
from ship.protocols.base import Chosen, Exam, Final, Protocol, Scorer
from ship.protocols.tasks import TaskBuilder
from ship.subsets import DEMANDS, FeatureSet, require
from ship.trial_config import LEAKING_SELECTIONS, TrialConfig

# SHIP's authors retrain CoOp at five ages of the generator (github.com/mrflogs/SHIP, run_coop).
REFERENCE_AGES = 5

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

    Args:
        config: the setting; what replicas do not share is not looked at.
        seeds: of each replica.
        features: of config.dataset.
        targets: not used; every protocol is built alike.
        clip: gives the classes' text features.
        dtype: of all features and losses.

    Raises:
        ValueError: the settings or the dataset do not meet the demands (ship.subsets.require).
    """
    return _within(config, seeds, features, clip, dtype, _by_halves)


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

    Args:
        config: the setting; what replicas do not share is not looked at.
        seeds: of each replica.
        features: of config.dataset.
        targets: not used; every protocol is built alike.
        clip: gives the classes' text features.
        dtype: of all features and losses.

    Raises:
        ValueError: the settings or the dataset do not meet the demands (ship.subsets.require).
    """
    return _within(config, seeds, features, clip, dtype, _by_one_softmax)


def single_unseen(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    targets: Targets,
    clip: FrozenCLIP,
    dtype: torch.dtype = torch.float32,
) -> Protocol:
    """All classes but one are seen; counted as in generalized_zero_shot.

    studied_classes has put `unseen_class` last.

    Args:
        config: the setting; what replicas do not share is not looked at.
        seeds: of each replica.
        features: of config.dataset.
        targets: not used; every protocol is built alike.
        clip: gives the classes' text features.
        dtype: of all features and losses.

    Raises:
        ValueError: the settings or the dataset do not meet the demands (ship.subsets.require).
    """
    return _within(config, seeds, features, clip, dtype, _by_one_softmax)


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

    Args:
        config: the setting; what replicas do not share is not looked at.
        seeds: of each replica.
        features: of config.dataset.
        targets: not used; every protocol is built alike.
        clip: gives the classes' text features.
        dtype: of all features and losses.

    Raises:
        ValueError: the settings or the dataset do not meet the demands (ship.subsets.require).
    """
    return _within(config, seeds, features, clip, dtype, _among_all)


def _by_halves(answers: Answers, exam: Exam, chosen: Chosen) -> dict[str, Tensor]:
    """Base and new accuracy, and the joint ones; of the test, also how base is told from new."""
    found = score(answers, exam.all_seen)
    return found if chosen is None else found | open_world(answers)


def _among_all(answers: Answers, exam: Exam, chosen: Chosen) -> dict[str, Tensor]:
    return {"accuracy": percent(answers.right, torch.ones_like(answers.right))}


def _by_one_softmax(answers: Answers, exam: Exam, chosen: Chosen) -> dict[str, Tensor]:
    constant = None if chosen is None else chosen.get("calibration")
    found = score_one_softmax(answers, exam.all_seen, constant)
    if chosen is None or constant is not None:
        return found
    # selection saw no unseen class, or nothing at all: there is no constant to calibrate with
    return {name: value for name, value in found.items() if not name.startswith("calibrat")}


def _within(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    dtype: torch.dtype,
    score: Scorer,
) -> Protocol:
    """Seen classes of one dataset, its first ones, and the unseen others, if there are any.

    Selection "pseudo_new" hides a seeded fraction of the seen classes, trains on the rest, and
    looks at validation pictures of both; the tested model is then retrained on all seen classes.
    The others train on all seen classes once. "base_val" looks at validation pictures of the seen
    classes, "few_val" at a few of them, "none" at nothing: its model is that of the last epoch.
    "test" looks at the test pictures after each epoch. "reference" looks at them as SHIP's authors
    do: a fine-tuner is trained to its end for each of five ages of the generator, and the age that
    does best on the test pictures is reported.
    """
    require(config, features, seeds)
    demands = DEMANDS[config.protocol]
    seen = np.arange(demands.n_seen(features))
    build = TaskBuilder(config, seeds, features, clip, dtype, seen=seen)
    n_classes, augment = len(features.class_names), not demands.new_classes
    task = build.task(n_classes, [seen] * len(seeds), augment=augment)
    test, metric = Exam(task, build.test()), config.selection_metric
    finals = (Final((test,)),)
    if config.selection == "none":
        return Protocol(None, metric, finals, score, task)
    if config.selection == "pseudo_new":
        return Protocol(build.pseudo_new(), metric, finals, score, task)
    if config.selection in LEAKING_SELECTIONS:
        ages = REFERENCE_AGES if config.selection == "reference" else 1
        return Protocol(test, metric, finals, score, ages=ages)
    return Protocol(Exam(task, build.validation()), metric, finals, score)
