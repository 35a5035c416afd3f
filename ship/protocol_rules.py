"""Rules that each protocol has for a trial's configuration, and for its classes and images.

The configuration is checked when a YAML is read (find_unmet_requirements), and the dataset when it
is scanned (find_missing_data). A trial checks both again when it starts (ship.protocols). This
module imports no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from ship.configs import METRICS
from ship.subsets import FeatureSet, Ids, draw_pseudo_new, select_studied_classes
from ship.trial_config import (
    LEAKING_SELECTIONS,
    OBJECTIVES,
    SEEN_OBJECTIVES,
    SEEN_SELECTIONS,
    ProtocolName,
    TrialConfig,
)


class UnmetRequirement(NamedTuple):
    """A requirement that a trial's configuration does not meet.

    Attributes:
        key: Dotted name of the key, e.g. "selection", or "targets[1]" for an item of a list.
        rule: Text that follows the key in a message, e.g. "must be a list of datasets".
        choices: Allowed names. Empty if they cannot be listed.
    """

    key: str
    rule: str
    choices: tuple[str, ...] = ()


class Rules(NamedTuple):
    """The rules of a protocol.

    Attributes:
        summary: Description printed by ship-sweep options.
        has_new_classes: Whether some of the dataset's classes are tested without training images.
        has_single_unseen: Whether exactly one class is tested without training images: the
            configuration's `unseen_class`, by default the last class.
        has_targets: Whether the model is tested on other datasets.
    """

    summary: str
    has_new_classes: bool = True
    has_single_unseen: bool = False
    has_targets: bool = False

    def count_seen(self, n_classes: int, n_base: int) -> int:
        """Return the number of seen classes, which are the first ones of a dataset.

        Args:
            n_classes: Number of classes of the dataset.
            n_base: Number of its base classes.
        """
        if not self.has_new_classes:
            return n_classes
        return n_classes - 1 if self.has_single_unseen else n_base


# Number of ages of the generator that selection "authors" compares. An age is a number of epochs
# after which the generator's training is paused to train a fine-tuner. SHIP's authors compare five
# ages (github.com/mrflogs/SHIP, run_coop).
N_GENERATOR_AGES: Final = 5

PROTOCOLS: Final[Mapping[ProtocolName, Rules]] = {
    # Base classes are the officially seen ones if the dataset has such a split, else the first
    # ceil(n/2). Base and new images are classified within their group; joint metrics use all
    # classes.
    "base_to_new": Rules(
        "Base-to-new generalization (CoCoOp, arXiv:2203.05557): base and new classes are tested "
        "separately."
    ),
    # Synthetic features, if any, are additional examples of the same classes.
    "few_shot": Rules(
        "Few-shot classification (CoOp, arXiv:2109.01134): all classes have training images.",
        has_new_classes=False,
    ),
    # As in SHIP (arXiv:2307.07397) and CoCoOp, which train on ImageNet with 16 shots. Classes of
    # the dataset that is trained on are seen; classes that only a target has are unseen. One
    # generator is fitted on the seen classes. A fine-tuner is trained for each target, with
    # features synthesized for its unseen classes. Selection uses no images of targets.
    "cross_dataset": Rules(
        "Cross-dataset transfer (CoCoOp): trained on the dataset, tested on `targets`.",
        has_new_classes=False,
        has_targets=True,
    ),
    # The same groups as in base_to_new, but with other metrics. The constant of calibrated stacking
    # is selected together with the epoch.
    "generalized_zero_shot": Rules(
        "Generalized zero-shot (Xian et al., arXiv:1707.00600): one softmax over all classes."
    ),
    # select_studied_classes puts `unseen_class` last.
    "single_unseen": Rules(
        "All classes but one are seen; metrics of generalized_zero_shot.", has_single_unseen=True
    ),
}


def find_unmet_requirements(config: TrialConfig) -> Iterator[UnmetRequirement]:
    """Yield the requirements that a trial's configuration does not meet.

    Those that depend on the content of a dataset are checked by find_missing_data.
    """
    protocol, rules = config.protocol, PROTOCOLS[config.protocol]
    when = f"when protocol is {protocol}"
    if rules.has_targets and config.selection in LEAKING_SELECTIONS:
        yield UnmetRequirement("selection", f"must not use test images {when}")
    elif config.selection == "pseudo_new" and not (rules.has_new_classes or rules.has_targets):
        yield UnmetRequirement(
            "selection", f"must not be pseudo_new {when}, which has no new classes"
        )
    if config.unseen_images_setting and not rules.has_new_classes:
        key, value = config.unseen_images_setting
        rule = f"must not be {value} {when}, which has no images of new classes"
        yield UnmetRequirement(key, rule)
    if config.targets and not rules.has_targets:
        yield UnmetRequirement("targets", "requires protocol cross_dataset")
    elif rules.has_targets and not config.targets:
        yield UnmetRequirement("targets", f"must be a list of datasets {when}")
    elif config.dataset in config.targets:
        rule = "must differ from the dataset that is trained on"
        yield UnmetRequirement(f"targets[{config.targets.index(config.dataset)}]", rule)
    if config.unseen_class is not None and not rules.has_single_unseen:
        yield UnmetRequirement("unseen_class", "requires protocol single_unseen")
    if config.objective is not None:
        yield from _check_objective(config)
    yield from _check_metrics(config)


def _check_metrics(config: TrialConfig) -> Iterator[UnmetRequirement]:
    """Yield the unmet requirements of metric plugins.

    Metric plugins are computed for a single tested model. Protocol cross_dataset and selection
    authors have several, so they cannot be combined with metric plugins.
    """
    for index, name in enumerate(config.metrics):
        if name not in METRICS:
            rule = "must be the name of a metric that --plugin loads"
            yield UnmetRequirement(f"metrics[{index}]", rule, tuple(METRICS))
    if config.metrics and PROTOCOLS[config.protocol].has_targets:
        yield UnmetRequirement("metrics", f"cannot be combined with protocol {config.protocol}")
    if config.metrics and config.selection == "authors":
        yield UnmetRequirement("metrics", "cannot be combined with selection authors")


def _check_objective(config: TrialConfig) -> Iterator[UnmetRequirement]:
    """Yield a requirement if the protocol or the selection cannot compute the objective."""
    objectives = OBJECTIVES[config.protocol]
    seen_only = SEEN_OBJECTIVES[config.protocol]
    selection, objective = config.selection, config.objective
    if selection == "none":
        rule = "cannot be combined with selection none, which evaluates no epoch"
        yield UnmetRequirement("objective", rule)
    elif selection in SEEN_SELECTIONS and objective != seen_only:
        rule = f"must be {seen_only} when selection is {selection}, which uses no new classes"
        yield UnmetRequirement("objective", rule)
    elif objective not in objectives:
        rule = f"must be a metric of protocol {config.protocol}"
        yield UnmetRequirement("objective", rule, objectives)


def check_requirements(config: TrialConfig, features: FeatureSet, seeds: Sequence[int]) -> None:
    """Raise an error if a trial does not meet its protocol's requirements.

    Args:
        config: Configuration of the trial.
        features: Features of config.dataset.
        seeds: Seeds of the trial.

    Raises:
        ValueError: Lists all unmet requirements.
    """
    faults = [f"{key} {rule}" for key, rule, _ in find_unmet_requirements(config)]
    faults = faults or [
        f"dataset {text}" for text in find_missing_data(config, features, seeds).values()
    ]
    if faults:
        raise ValueError("; ".join(faults))


def find_missing_data(
    config: TrialConfig, features: FeatureSet, seeds: Sequence[int], *, real_images: bool = False
) -> dict[str, str]:
    """Return what a dataset lacks for a trial.

    Args:
        config: Configuration of the trial, for which find_unmet_requirements yields nothing.
        features: Dataset with the labels and class names of all classes. Its features are not used.
        seeds: Seeds of the trial; each holds out different pseudo-new classes.
        real_images: Whether the study also runs the control with real images.

    Returns:
        Dict from the kind of missing data ("classes", "shots", "few_shot", "real", or a split) to a
        message without its subject, e.g. "must have training images of every seen class, but
        photos has none of 'cup'". Empty if nothing is missing.
    """
    features = select_studied_classes(config, features)
    rules, n_classes = PROTOCOLS[config.protocol], len(features.class_names)
    seen, unseen = np.split(np.arange(n_classes), [rules.count_seen(n_classes, features.n_base)])
    if rules.has_new_classes and not (len(seen) and len(unseen)):
        return {"classes": f"must have at least 2 classes, but {features.dataset} has {n_classes}"}
    missing: dict[str, str] = {}
    if lacking := _find_lacking(features, seen, "train"):
        missing["train"] = f"must have training images of every seen class, but {lacking}"
    missing |= _find_few_shot_faults(config, features, seeds)
    purpose = "for the control real_images (controls: false skips it)" if real_images else ""
    if config.unseen_images_setting:
        purpose = "when {} is {}".format(*config.unseen_images_setting)
    if purpose and (lacking := _find_lacking(features, unseen, "train")):
        missing["real"] = (
            f"must have training images of every unseen class {purpose}, but {lacking}"
        )
    if fault := _find_validation_fault(config, features, seen, seeds):
        missing["val"] = fault
    if not rules.has_targets:  # with targets, the dataset needs no test images
        for group, classes in (("seen", seen), ("unseen", unseen)):
            if lacking := _find_lacking(features, classes, "test", any_class=True):
                fault = f"must have test images of {group} classes, but {lacking}"
                missing.setdefault("test", fault)
    return missing


def _find_lacking(
    features: FeatureSet, classes: Ids, split: str, *, any_class: bool = False
) -> str:
    """Return "DATASET has none of 'CLASS', ..." if classes have no images in a split, else "".

    Args:
        features: Dataset.
        classes: Classes that need images.
        split: Name of the split.
        any_class: Whether one class with images is enough.
    """
    from ship.datasets.base import shorten_list  # it imports Pillow

    lacking = np.setdiff1d(classes, getattr(features, f"{split}_labels"))
    if not len(lacking) or (any_class and len(lacking) < len(classes)):
        return ""
    names = shorten_list(repr(features.class_names[label]) for label in lacking)
    return f"{features.dataset} has none of {names}"


def _find_validation_fault(
    config: TrialConfig, features: FeatureSet, seen: Ids, seeds: Sequence[int]
) -> str:
    """Return a message about missing validation images; see find_missing_data. "" if none."""
    from ship.datasets.base import shorten_list  # it imports Pillow

    reason = _explain_need_for_validation(config)
    is_pseudo_new = config.selection == "pseudo_new"
    if is_pseudo_new and len(seen) < 2:
        return (
            "must have at least 2 seen classes when selection is pseudo_new, but "
            f"{features.dataset} has {len(seen)} under protocol {config.protocol}"
        )
    lacking = _find_lacking(features, seen, "val", any_class=True)
    if reason and lacking:
        by_selection = config.selection not in ("none", *LEAKING_SELECTIONS)
        advice = "Use selection: none" if by_selection else "Remove generator.early_stopping"
        return f"must have validation images of seen classes when {reason}, but {lacking}. {advice}"
    if not is_pseudo_new:
        return ""
    without_images = np.setdiff1d(seen, features.val_labels)
    bad_seeds = [
        seed
        for seed in seeds
        for group in draw_pseudo_new(seen, config.pseudo_new_fraction, seed)
        if np.isin(group, without_images).all()
    ]
    if not bad_seeds:
        return ""
    lacking = _find_lacking(features, seen, "val")
    noun = "seed" if len(bad_seeds) == 1 else "seeds"
    return (
        f"must have validation images of both seen and pseudo-new classes when {reason}, but "
        f"{lacking}. Under {noun} {shorten_list(bad_seeds)}, these include all seen or all "
        "pseudo-new classes. Use selection: base_val or none"
    )


def _find_few_shot_faults(
    config: TrialConfig, features: FeatureSet, seeds: Sequence[int]
) -> dict[str, str]:
    """Return what a split file's few-shot lists lack for a trial; see find_missing_data."""
    from ship.datasets.base import shorten_list  # it imports Pillow

    missing: dict[str, str] = {}
    if not features.few_shot:
        return missing
    if lacking := [seed for seed in seeds if seed not in features.few_shot]:
        noun = "seed" if len(lacking) == 1 else "seeds"
        missing["few_shot"] = (
            "must have few-shot images of every seed, but its split file lists none for "
            f"{noun} {shorten_list(lacking)}. Use listed seeds: {shorten_list(features.few_shot)}"
        )
    lists = features.few_shot.values()
    max_shots = max(int(np.bincount(features.train_labels[rows]).max(initial=0)) for rows in lists)
    if config.shots not in (None, max_shots):
        missing["shots"] = (
            f"must have few-shot lists of {config.shots} images per class, but the lists have at "
            f"most {max_shots}. Use shots: {max_shots}"
        )
    return missing


def _explain_need_for_validation(config: TrialConfig) -> str:
    """Return why a trial needs validation images of seen classes. "" if it needs none."""
    if config.selection not in ("none", *LEAKING_SELECTIONS):
        return f"selection is {config.selection}"
    key, stopping = "generator.early_stopping", getattr(config.generator, "early_stopping", None)
    is_used = stopping is not None and config.generator.explain_unused(key) is None
    return f"{key} is given" if is_used else ""
