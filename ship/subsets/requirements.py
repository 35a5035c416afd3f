"""What each protocol demands of a trial's settings, and of its dataset's classes and pictures.

The checks of a YAML ask it before a study begins, and the protocols (ship.protocols) in each trial.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from ship.configs import OBJECTIVES, SEEN_OBJECTIVES, ProtocolName
from ship.subsets.feature_set import FeatureSet, studied_classes
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
    protocol, demands = trial.protocol, DEMANDS[trial.protocol]
    if must := demands.refused.get(trial.selection):
        yield Requirement("selection", must)
    if trial.generator.name == "real" and not demands.new_classes:
        why = f"when protocol is {protocol}, which has no new classes' pictures"
        yield Requirement("generator", f"must not be real {why}")
    if trial.targets and not demands.targets:
        yield Requirement("targets", "must be left out unless protocol is cross_dataset")
    elif demands.targets and not trial.targets:
        must = f"must be given when protocol is {protocol}: a list of datasets"
        yield Requirement("targets", must)
    elif trial.dataset in trial.targets:
        must = "must be another dataset than the one that is trained on"
        yield Requirement(f"targets[{trial.targets.index(trial.dataset)}]", must)
    if trial.unseen_class is not None and not demands.unseen_class:
        yield Requirement("unseen_class", "must be left out unless protocol is single_unseen")
    if trial.objective is not None:
        yield from _of_objective(trial)


def _of_objective(trial: TrialConfig) -> Iterator[Requirement]:
    """An objective must be a metric of the pictures that selection looks at."""
    known, seen_only = OBJECTIVES[trial.protocol], SEEN_OBJECTIVES[trial.protocol]
    selection, objective = trial.selection, trial.objective
    if selection == "none":
        must = "must be left out where selection is none, which measures nothing"
        yield Requirement("objective", must)
    elif selection in SEEN_SELECTIONS and objective != seen_only:
        must = f"must be {seen_only} where selection is {selection}, which sees no new classes"
        yield Requirement("objective", must)
    elif objective not in (*known, seen_only):
        must = f"must be a metric of protocol {trial.protocol}"
        yield Requirement("objective", must, known)


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
    lacks = _Lacks(features)
    must = "must have training pictures of every"
    found = {"train": lacks.any_of(seen, "train", f"{must} seen class")}
    why = "for the arm real_pictures (reference_arms: false leaves it out)" if shown else ""
    why = "when generator is real" if config.generator.name == "real" else why
    if why:
        found["real"] = lacks.any_of(unseen, "train", f"{must} unseen class {why}")
    found["val"] = _validation(config, seen, lacks, seeds)
    if not demands.targets:  # which are tested instead
        found["test"] = lacks.all_of(
            seen, "test", "must have test pictures of seen classes"
        ) or lacks.all_of(unseen, "test", "must have test pictures of unseen classes")
    return {kind: must for kind, must in found.items() if must}


class _Lacks:
    """Says which classes of a dataset have no pictures, each time as a line; "": none lacks any."""

    def __init__(self, features: FeatureSet) -> None:
        self.features = features

    def without(self, classes: np.ndarray, split: str) -> np.ndarray:
        """Those of the classes that have no picture in a split."""
        return np.setdiff1d(classes, getattr(self.features, f"{split}_labels"))

    def any_of(self, classes: np.ndarray, split: str, must: str) -> str:
        """The line where at least one of the classes has no picture in a split."""
        names = [repr(self.features.class_names[c]) for c in self.without(classes, split)]
        if not names:
            return ""
        from ship.datasets.base import some  # it takes Pillow

        return f"{must}: {self.features.dataset} has none of {some(names)}"

    def all_of(self, classes: np.ndarray, split: str, must: str) -> str:
        """The line where none of the classes has one."""
        gone = len(classes) and len(self.without(classes, split)) == len(classes)
        return self.any_of(classes, split, must) if gone else ""


def _validation(config: TrialConfig, seen: np.ndarray, lacks: _Lacks, seeds: Sequence[int]) -> str:
    """Selection and early stopping look at validation pictures of seen classes."""
    reason, pseudo_new = f"selection is {config.selection}", config.selection == "pseudo_new"
    if pseudo_new and len(seen) < 2:
        must = f"must have at least 2 seen classes when {reason}"
        name = lacks.features.dataset
        return f"{must}: {name} has {len(seen)} under protocol {config.protocol}"
    if config.selection in ("none", *LEAKING_SELECTIONS):
        generator = config.generator
        if getattr(generator, "early_stopping", None) is None:
            return ""
        if generator.unread_reason("generator.early_stopping") is not None:
            return ""
        reason = "generator.early_stopping is given"
    must = f"must have validation pictures of seen classes when {reason}"
    line = lacks.all_of(seen, "val", must)
    if line or not pseudo_new:
        return line
    without = lacks.without(seen, "val")
    torn = [
        seed
        for seed in seeds
        for group in pseudo_new_classes(seen, config.pseudo_new_fraction, seed)
        if np.isin(group, without).all()
    ]
    if not torn:
        return ""
    from ship.datasets.base import some

    must = f"must have validation pictures of classes on both sides when {reason} "
    return lacks.any_of(seen, "val", f"{must}(not so for seeds {some(torn)})")
