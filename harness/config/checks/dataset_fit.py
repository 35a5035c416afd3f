"""Whether a dataset has the classes and pictures that a trial's protocol and selection need."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ship.subsets import FeatureSet, pseudo_new_classes, studied_classes
from ship.trial_config import LEAKING_SELECTIONS, TrialConfig

if TYPE_CHECKING:
    from ship.datasets import PictureDataset, Survey


def bare_features(name: str, survey: "Survey | PictureDataset") -> FeatureSet:
    """A dataset's labels as a FeatureSet with features of size 0: it can be cut, not trained on."""
    labels = {split: survey.splits[split].labels for split in ("train", "val", "test")}
    empty = {split: np.empty((len(own), 0), np.float32) for split, own in labels.items()}
    return FeatureSet(
        class_names=survey.class_names,
        template="{}",
        dataset=name,
        dataset_fingerprint="",
        backbone_fingerprint="",
        train=empty["train"][:, None],
        train_labels=labels["train"],
        val=empty["val"],
        val_labels=labels["val"],
        test=empty["test"],
        test_labels=labels["test"],
        n_seen=survey.n_seen,
    )


def unfit(
    config: TrialConfig, features: FeatureSet, seeds: Sequence[int], *, shown: bool
) -> dict[str, str]:
    """What the dataset lacks for a trial: the kind of it -> what it must have, in words.

    The protocols refuse the same, but in every trial anew.

    Args:
        features: labels and class names, of all of the dataset's classes.
        shown: whether the arm real_pictures stands beside the trial.
    """
    features = studied_classes(config, features)
    seen, unseen = _groups(config, features)
    if config.protocol not in ("few_shot", "cross_dataset") and not (len(seen) and len(unseen)):
        must = f"must have at least 2 classes: {features.dataset} has {len(features.class_names)}"
        return {"classes": must}
    found = {
        "train": _missing(
            "must have training pictures of every seen class", seen, features, "train"
        ),
        "real": _unseen_training(config, unseen, features, shown),
        "val": _validation(config, seen, features, seeds),
        "test": _tested(config, seen, unseen, features),
    }
    return {kind: must for kind, must in found.items() if must}


def _groups(config: TrialConfig, features: FeatureSet) -> tuple[np.ndarray, np.ndarray]:
    """The labels of the classes that are trained on, and of the others that are tested."""
    n_classes = len(features.class_names)
    if config.protocol in ("few_shot", "cross_dataset"):
        n_seen = n_classes
    else:
        n_seen = n_classes - 1 if config.protocol == "single_unseen" else features.n_base
    return np.arange(n_seen), np.arange(n_seen, n_classes)


def _without(classes: np.ndarray, features: FeatureSet, split: str) -> list[str]:
    """Names of the classes without a picture in a split."""
    there = np.unique(getattr(features, f"{split}_labels"))
    return [features.class_names[c] for c in classes if c not in there]


def _missing(must: str, classes: np.ndarray, features: FeatureSet, split: str) -> str:
    """The line where some of the classes have no picture in a split, else ""."""
    from ship.datasets.base import some

    names = _without(classes, features, split)
    return f"{must}: {features.dataset} has none of {some(map(repr, names))}" if names else ""


def _unseen_training(
    config: TrialConfig, unseen: np.ndarray, features: FeatureSet, shown: bool
) -> str:
    must = "must have training pictures of every unseen class "
    if config.generator.name == "real":
        return _missing(f"{must}when generator is real", unseen, features, "train")
    if not shown:
        return ""
    must += "for the arm real_pictures (reference_arms: false leaves it out)"
    return _missing(must, unseen, features, "train")


def _validation(
    config: TrialConfig, seen: np.ndarray, features: FeatureSet, seeds: Sequence[int]
) -> str:
    """Selection and early stopping look at validation pictures of seen classes."""
    from ship.datasets.base import some

    name = features.dataset
    pseudo_new = config.selection == "pseudo_new" and config.protocol != "few_shot"
    if pseudo_new and len(seen) < 2:
        must = "must have at least 2 seen classes when selection is pseudo_new"
        return f"{must}: {name} has {len(seen)} under protocol {config.protocol}"
    stops = getattr(config.generator, "early_stopping", None) is not None
    stops = stops and getattr(config.generator, "prompt", None) != "fixed"
    reason = f"selection is {config.selection}"
    if config.selection in ("none", *LEAKING_SELECTIONS):
        if not stops:
            return ""
        reason = "generator.early_stopping is given"
    lacking = set(seen.tolist()) - set(features.val_labels.tolist())
    if len(lacking) == len(seen):
        must = f"must have validation pictures of seen classes when {reason}"
        return _missing(must, seen, features, "val")
    if not pseudo_new or not lacking:
        return ""
    torn = [
        seed
        for seed in seeds
        for group in pseudo_new_classes(seen, config.pseudo_new_fraction, seed)
        if lacking.issuperset(group.tolist())
    ]
    if not torn:
        return ""
    must = (
        f"must have validation pictures of classes on both sides when {reason} "
        f"(not so for seeds {some(torn)})"
    )
    return _missing(must, seen, features, "val")


def _tested(config: TrialConfig, seen: np.ndarray, unseen: np.ndarray, features: FeatureSet) -> str:
    if config.protocol == "cross_dataset":  # tested on its targets
        return ""
    for group, classes in (("seen", seen), ("unseen", unseen)):
        if len(classes) and len(_without(classes, features, "test")) == len(classes):
            return _missing(
                f"must have test pictures of {group} classes", classes, features, "test"
            )
    return ""
