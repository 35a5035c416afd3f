"""Protocols within one dataset: base-to-new, few-shot, generalized zero-shot, one unseen class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.features import FeatureSet
from ship.metrics import Answers, score_one_softmax
from ship.protocols.base import (
    Chosen,
    Exam,
    Final,
    Protocol,
    Scorer,
    among_all,
    by_halves,
    in_the_open,
    most_validation,
)
from ship.protocols.tasks import TaskBuilder
from ship.subsets import pseudo_new_classes, require
from ship.trial_config import LEAKING_SELECTIONS, TrialConfig

# SHIP's authors retrain CoOp at five ages of the generator (github.com/mrflogs/SHIP, run_coop).
REFERENCE_AGES = 5

Targets = Mapping[str, FeatureSet]
Scorers = tuple[Scorer, Scorer]  # of selection, and of the test
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
    return _two_groups(config, seeds, features, clip, dtype, (by_halves, in_the_open))


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
    return _two_groups(config, seeds, features, clip, dtype, (_by_one_softmax, _by_one_softmax))


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
    alone = replace(features, n_seen=len(features.class_names) - 1)
    return _two_groups(config, seeds, alone, clip, dtype, (_by_one_softmax, _by_one_softmax))


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
    require(config, features, seeds)
    everything = np.arange(len(features.class_names))
    build = TaskBuilder(config.shots, seeds, features, clip, dtype, seen=everything)
    task = replace(build.task(len(everything), [everything] * len(seeds)), augment=True)
    test = Exam(task, build.test())
    return _on_one_task(config, build, Final((test,)), everything, (among_all, among_all))


def _by_one_softmax(answers: Answers, exam: Exam, chosen: Chosen) -> dict[str, Tensor]:
    constant = None if chosen is None else chosen.get("calibration")
    found = score_one_softmax(answers, exam.all_seen, constant)
    if chosen is None or constant is not None:
        return found
    # selection saw no unseen class, or nothing at all: there is no constant to calibrate with
    return {name: value for name, value in found.items() if not name.startswith("calibrat")}


def _two_groups(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    dtype: torch.dtype,
    scorers: Scorers,
) -> Protocol:
    """Seen and unseen classes of one dataset.

    selection "pseudo_new" hides a seeded fraction of the seen classes, trains on the rest, and
    looks at validation pictures of both; the tested model is then retrained on all seen classes.
    The others train on all seen classes once: see _on_one_task.
    """
    n_classes = len(features.class_names)
    require(config, features, seeds)
    base = np.arange(features.n_base)
    build = TaskBuilder(config.shots, seeds, features, clip, dtype, seen=base)
    final = build.task(n_classes, [base] * len(seeds))
    test = Exam(final, build.test())
    if config.selection == "pseudo_new":
        seen = [pseudo_new_classes(base, config.pseudo_new_fraction, seed)[0] for seed in seeds]
        chosen_on = Exam(build.task(len(base), seen), build.validation(base))
        metric = config.selection_metric
        return Protocol(chosen_on, metric, (Final((test,)),), *scorers, final)
    return _on_one_task(config, build, Final((test,)), base, scorers)


def _on_one_task(
    config: TrialConfig, build: TaskBuilder, final: Final, seen: np.ndarray, scorers: Scorers
) -> Protocol:
    """Selection on the model that is tested, which is trained on all seen classes.

    "base_val" looks at validation pictures of the seen classes, "few_val" at a few of them, "none"
    at nothing: its model is that of the last epoch. "test" looks at the test pictures after each
    epoch. "reference" looks at them as SHIP's authors do: a fine-tuner is trained to its end for
    each of five ages of the generator, and the age that does best on the test pictures is reported.
    """
    (test,), metric = final.exams, config.selection_metric
    if config.selection == "none":
        return Protocol(None, metric, (final,), *scorers, final.task)
    if config.selection in LEAKING_SELECTIONS:
        ages = REFERENCE_AGES if config.selection == "reference" else 1
        return Protocol(test, metric, (final,), *scorers, ages=ages)
    chosen_on = Exam(final.task, build.validation(seen, most_validation(config)))
    return Protocol(chosen_on, metric, (final,), *scorers)
