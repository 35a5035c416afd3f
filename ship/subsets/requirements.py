"""What each protocol demands of a trial's settings, and of its dataset's classes and pictures.

The checks of a YAML ask it before a study begins, and the protocols (ship.protocols) in each trial.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from ship.configs import OBJECTIVES, SEEN_OBJECTIVES, ProtocolName
from ship.subsets.classes import studied_classes
from ship.subsets.feature_set import FeatureSet
from ship.subsets.splits import pseudo_new_classes
from ship.trial_config import LEAKING_SELECTIONS, SEEN_SELECTIONS, Selection, TrialConfig


class Requirement(NamedTuple):
    """What a setting of a trial must be, and is not.

    key: dotted name of the setting; "targets[1]" is one of a list.
    must: reads on from the key: "must be given ...".
    choices: what it may be, where that is a list of names.
    """

    key: str
    must: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Demands:
    """What sets a protocol's demands apart from the others'.

    new_classes: whether some of the dataset's classes are held back from training, and tested.
    unseen_class: whether that is one class, the last one or a named one.
    targets: whether other datasets are tested.
    refused: selections without a meaning -> what the selection must be, in words.
    """

    new_classes: bool = True
    unseen_class: bool = False
    targets: bool = False
    refused: Mapping[Selection, str] = field(default_factory=dict)

    def n_seen(self, features: FeatureSet) -> int:
        """How many classes of a dataset, the first ones, are trained on."""
        n_classes = len(features.class_names)
        if not self.new_classes:
            return n_classes
        return n_classes - 1 if self.unseen_class else features.n_base


DEMANDS: Final[Mapping[ProtocolName, Demands]] = {
    "base_to_new": Demands(),
    "few_shot": Demands(
        new_classes=False,
        refused={
            "pseudo_new": "must not be pseudo_new when protocol is few_shot, which has no new "
            "classes"
        },
    ),
    "cross_dataset": Demands(
        new_classes=False,
        targets=True,
        refused=dict.fromkeys(
            LEAKING_SELECTIONS,
            "must not look at test pictures when protocol is cross_dataset",
        ),
    ),
    "generalized_zero_shot": Demands(),
    "single_unseen": Demands(unseen_class=True),
}


def requirements(trial: TrialConfig) -> Iterator[Requirement]:
    """What a trial's settings do not meet, whatever its datasets have."""
    demands = DEMANDS[trial.protocol]
    if must := demands.refused.get(trial.selection):
        yield Requirement("selection", must)
    if trial.generator.name == "real" and not demands.new_classes:
        why = f"when protocol is {trial.protocol}, which has no new classes' pictures"
        yield Requirement("generator", f"must not be real {why}")
    if demands.targets and not trial.targets:
        must = f"must be given when protocol is {trial.protocol}: a list of datasets"
        yield Requirement("targets", must)
    if trial.targets and not demands.targets:
        yield Requirement("targets", "must be left out unless protocol is cross_dataset")
    for index, target in enumerate(trial.targets if demands.targets else ()):
        if target == trial.dataset:
            must = "must be another dataset than the one that is trained on"
            yield Requirement(f"targets[{index}]", must)
    if trial.unseen_class is not None and not demands.unseen_class:
        yield Requirement("unseen_class", "must be left out unless protocol is single_unseen")
    yield from _of_objective(trial)


def _of_objective(trial: TrialConfig) -> Iterator[Requirement]:
    """An objective must be a metric of the pictures that selection looks at."""
    known, seen_only = OBJECTIVES[trial.protocol], SEEN_OBJECTIVES[trial.protocol]
    selection, objective = trial.selection, trial.objective
    if objective is None:
        return
    if selection == "none":
        must = "must be left out where selection is none, which measures nothing"
        yield Requirement("objective", must)
    elif selection in SEEN_SELECTIONS and objective != seen_only:
        must = f"must be {seen_only} where selection is {selection}, which sees no new classes"
        yield Requirement("objective", must)
    elif objective not in (*known, seen_only):
        must = f"must be a metric of protocol {trial.protocol}"
        yield Requirement("objective", must, known)


def lacking(
    config: TrialConfig, features: FeatureSet, seeds: Sequence[int], *, shown: bool = False
) -> dict[str, str]:
    """What a dataset lacks for a trial: the kind of it -> what it must have, in words.

    Args:
        config: the trial, whose settings meet the requirements.
        features: labels and class names, of all of the dataset's classes.
        seeds: of the trial, which hold out other pseudo-new classes each.
        shown: whether the arm real_pictures stands beside the trial.
    """
    features = studied_classes(config, features)
    demands, classes = DEMANDS[config.protocol], np.arange(len(features.class_names))
    seen, unseen = np.split(classes, [demands.n_seen(features)])
    if demands.new_classes and not (len(seen) and len(unseen)):
        return {"classes": f"must have at least 2 classes: {features.dataset} has {len(classes)}"}
    found = {
        "train": _missing(
            "must have training pictures of every seen class", seen, features, "train"
        ),
        "real": _unseen_training(config, unseen, features, shown),
        "val": _validation(config, seen, features, seeds),
        "test": _tested(config, seen, unseen, features),
    }
    return {kind: must for kind, must in found.items() if must}


def require(config: TrialConfig, features: FeatureSet, seeds: Sequence[int]) -> None:
    """Refuse a trial that does not meet its protocol's demands.

    Args:
        config: the trial.
        features: of config.dataset.
        seeds: of the trial.

    Raises:
        ValueError: with every demand that is not met.
    """
    unmet = [f"{key} {must}" for key, must, _ in requirements(config)]
    unmet = unmet or [f"dataset {must}" for must in lacking(config, features, seeds).values()]
    if unmet:
        raise ValueError("; ".join(unmet))


def _without(classes: np.ndarray, features: FeatureSet, split: str) -> list[str]:
    """Names of the classes without a picture in a split."""
    there = np.unique(getattr(features, f"{split}_labels"))
    return [features.class_names[c] for c in classes if c not in there]


def _missing(must: str, classes: np.ndarray, features: FeatureSet, split: str) -> str:
    """The line where some of the classes have no picture in a split, else ""."""
    from ship.datasets.base import some  # it takes Pillow

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
    name = features.dataset
    pseudo_new = config.selection == "pseudo_new"
    if pseudo_new and len(seen) < 2:
        must = "must have at least 2 seen classes when selection is pseudo_new"
        return f"{must}: {name} has {len(seen)} under protocol {config.protocol}"
    stops = getattr(config.generator, "early_stopping", None) is not None
    stops = stops and config.generator.unread_reason("generator.early_stopping") is None
    reason = f"selection is {config.selection}"
    if config.selection in ("none", *LEAKING_SELECTIONS):
        if not stops:
            return ""
        reason = "generator.early_stopping is given"
    without = set(seen.tolist()) - set(features.val_labels.tolist())
    if len(without) == len(seen):
        must = f"must have validation pictures of seen classes when {reason}"
        return _missing(must, seen, features, "val")
    if not pseudo_new or not without:
        return ""
    torn = [
        seed
        for seed in seeds
        for group in pseudo_new_classes(seen, config.pseudo_new_fraction, seed)
        if without.issuperset(group.tolist())
    ]
    if not torn:
        return ""
    from ship.datasets.base import some

    must = (
        f"must have validation pictures of classes on both sides when {reason} "
        f"(not so for seeds {some(torn)})"
    )
    return _missing(must, seen, features, "val")


def _tested(config: TrialConfig, seen: np.ndarray, unseen: np.ndarray, features: FeatureSet) -> str:
    if DEMANDS[config.protocol].targets:  # which are tested instead
        return ""
    for group, classes in (("seen", seen), ("unseen", unseen)):
        if len(classes) and len(_without(classes, features, "test")) == len(classes):
            return _missing(
                f"must have test pictures of {group} classes", classes, features, "test"
            )
    return ""
