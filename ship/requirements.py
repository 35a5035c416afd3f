"""What each protocol demands of a trial's settings, and of its dataset's classes and pictures.

The checks of a YAML ask it before a study begins, and each trial (ship.protocols) again. It imports
no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from ship.subsets import FeatureSet, Ids, pseudo_new_classes, studied_classes
from ship.trial_config import (
    LEAKING_SELECTIONS,
    OBJECTIVES,
    SEEN_OBJECTIVES,
    SEEN_SELECTIONS,
    ProtocolName,
    TrialConfig,
)


class Requirement(NamedTuple):
    """What a setting of a trial must be, and is not.

    key: dotted name of the setting; "targets[1]" is one of a list.
    must: reads on from the key: "must be given ...".
    choices: what it may be, where that is a list of names.
    """

    key: str
    must: str
    choices: tuple[str, ...] = ()


class Rules(NamedTuple):
    """What sets a protocol apart from the others.

    line: what it is, as --list-options prints it.
    new_classes: whether some of the dataset's classes are held back from training, and tested.
    unseen_class: whether that is one class, the last one or a named one.
    targets: whether other datasets are tested.
    """

    line: str
    new_classes: bool = True
    unseen_class: bool = False
    targets: bool = False

    def n_seen(self, features: FeatureSet) -> int:
        """How many classes of a dataset, the first ones, are trained on."""
        n_classes = len(features.class_names)
        if not self.new_classes:
            return n_classes
        return n_classes - 1 if self.unseen_class else features.n_base


PROTOCOLS: Final[Mapping[ProtocolName, Rules]] = {
    # Base are the officially seen classes where the dataset has such a split, else the first
    # ceil(n/2). Base and new accuracy are each among their own classes; joint ones among all.
    "base_to_new": Rules(
        "Base-to-new generalisation (CoCoOp, arXiv:2203.05557), with selection that leaks nothing."
    ),
    # Synthetic features, if any, are of the same classes: more pictures, as it were.
    "few_shot": Rules(
        "Few-shot classification (CoOp, arXiv:2109.01134): every class is trained on and tested.",
        new_classes=False,
    ),
    # From arXiv:2307.07397 and CoCoOp, whose source is ImageNet with 16 shots. One generator is
    # fitted on the source; a fine-tuner is trained for each target, with features synthesized for
    # its names. Selection looks at the source alone: no picture of a target chooses anything.
    "cross_dataset": Rules(
        "All source classes are seen; each target's further class names are unseen.",
        new_classes=False,
        targets=True,
    ),
    # The same groups as in base_to_new; what differs is how predictions are counted, and that the
    # constant of calibrated stacking is chosen along with the epoch.
    "generalized_zero_shot": Rules(
        "Generalized zero-shot (Xian et al., arXiv:1707.00600): one softmax, per-class averages."
    ),
    # studied_classes has put `unseen_class` last.
    "single_unseen": Rules(
        "All classes but one are seen; counted as in generalized_zero_shot.", unseen_class=True
    ),
}


def requirements(trial: TrialConfig) -> Iterator[Requirement]:
    """What a trial's settings do not meet, whatever its datasets have."""
    protocol, rules = trial.protocol, PROTOCOLS[trial.protocol]
    when = f"when protocol is {protocol}"
    if rules.targets and trial.selection in LEAKING_SELECTIONS:
        yield Requirement("selection", f"must not look at test pictures {when}")
    elif trial.selection == "pseudo_new" and not (rules.new_classes or rules.targets):
        yield Requirement("selection", f"must not be pseudo_new {when}, which has no new classes")
    if trial.shows_unseen and not rules.new_classes:
        key, what = trial.shows_unseen
        yield Requirement(key, f"must not be {what} {when}, which has no new classes' pictures")
    if trial.targets and not rules.targets:
        yield Requirement("targets", "must be left out unless protocol is cross_dataset")
    elif rules.targets and not trial.targets:
        yield Requirement("targets", f"must be given {when}: a list of datasets")
    elif trial.dataset in trial.targets:
        must = "must be another dataset than the one that is trained on"
        yield Requirement(f"targets[{trial.targets.index(trial.dataset)}]", must)
    if trial.unseen_class is not None and not rules.unseen_class:
        yield Requirement("unseen_class", "must be left out unless protocol is single_unseen")
    if trial.objective is not None:
        yield from _of_objective(trial)


def _of_objective(trial: TrialConfig) -> Iterator[Requirement]:
    """An objective must be a metric of the pictures that selection looks at."""
    known = OBJECTIVES[trial.protocol]
    seen_only = SEEN_OBJECTIVES[trial.protocol]  # one of them
    selection, objective = trial.selection, trial.objective
    if selection == "none":
        must = "must be left out where selection is none, which measures nothing"
        yield Requirement("objective", must)
    elif selection in SEEN_SELECTIONS and objective != seen_only:
        must = f"must be {seen_only} where selection is {selection}, which sees no new classes"
        yield Requirement("objective", must)
    elif objective not in known:
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
    from ship.datasets.base import some  # it takes Pillow

    features = studied_classes(config, features)
    rules, n_classes = PROTOCOLS[config.protocol], len(features.class_names)
    seen, unseen = np.split(np.arange(n_classes), [rules.n_seen(features)])
    if rules.new_classes and not (len(seen) and len(unseen)):
        return {"classes": f"must have at least 2 classes: {features.dataset} has {n_classes}"}
    found: dict[str, str] = {}

    def look(
        kind: str, classes: Ids, split: str, what: str, advice: str = "", *, enough: bool = False
    ) -> None:
        """Each of the classes must have pictures in a split; where one is enough, one of them."""
        without = np.setdiff1d(classes, getattr(features, f"{split}_labels"))
        lacks = len(without) > 0 and (not enough or len(without) == len(classes))
        if lacks and kind not in found:
            names = some(repr(features.class_names[label]) for label in without)
            found[kind] = f"must have {what}: {features.dataset} has none of {names}{advice}"

    look("train", seen, "train", "training pictures of every seen class")
    why = "for the arm real_pictures (reference_arms: false leaves it out)" if shown else ""
    if config.shows_unseen:
        why = "when {} is {}".format(*config.shows_unseen)
    if why:
        look("real", unseen, "train", f"training pictures of every unseen class {why}")
    pseudo_new = config.selection == "pseudo_new"
    reason = _reason_to_validate(config)
    if pseudo_new and len(seen) < 2:
        has = f"{features.dataset} has {len(seen)} under protocol {config.protocol}"
        found["val"] = f"must have at least 2 seen classes when selection is pseudo_new: {has}"
    elif reason:
        what = f"validation pictures of seen classes when {reason}"
        by_selection = config.selection not in ("none", *LEAKING_SELECTIONS)
        other = "selection: none, which needs none" if by_selection else "no early_stopping"
        look("val", seen, "val", what, f". Use {other}", enough=True)
    if pseudo_new and len(seen) >= 2:
        without = np.setdiff1d(seen, features.val_labels)
        torn = [
            seed
            for seed in seeds
            for group in pseudo_new_classes(seen, config.pseudo_new_fraction, seed)
            if np.isin(group, without).all()
        ]
        if torn:
            why = f"{reason} (not so for seeds {some(torn)})"
            both = f"validation pictures of classes on both sides when {why}"
            look("val", seen, "val", both, ". Use selection: base_val, or none, which needs none")
    if not rules.targets:  # which are tested instead
        look("test", seen, "test", "test pictures of seen classes", enough=True)
        look("test", unseen, "test", "test pictures of unseen classes", enough=True)
    return found


def _reason_to_validate(config: TrialConfig) -> str:
    """Why a trial looks at validation pictures of seen classes; "": it does not."""
    if config.selection not in ("none", *LEAKING_SELECTIONS):
        return f"selection is {config.selection}"
    key, stopping = "generator.early_stopping", getattr(config.generator, "early_stopping", None)
    read = stopping is not None and config.generator.unread_reason(key) is None
    return f"{key} is given" if read else ""
