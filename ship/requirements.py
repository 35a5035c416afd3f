"""Requirements of each protocol on a trial's configuration and its dataset's classes and images.

They are checked when a YAML is read, and again when a trial starts (ship.protocols).
Imports no torch.
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
        new_classes: Whether some of the dataset's classes are tested without training images.
        unseen_class: Whether there is exactly one such class: `unseen_class` of the configuration,
            or the last one if it is None.
        targets: Whether the model is tested on other datasets.
    """

    summary: str
    new_classes: bool = True
    unseen_class: bool = False
    targets: bool = False

    def count_seen(self, n_classes: int, n_base: int) -> int:
        """Return the number of seen classes, which are the first ones of a dataset.

        Args:
            n_classes: Number of classes of the dataset.
            n_base: Number of its base classes.
        """
        if not self.new_classes:
            return n_classes
        return n_classes - 1 if self.unseen_class else n_base


# Selection "authors" compares the generator at this many ages, i.e. epochs of its training. SHIP's
# authors train CoOp again at five ages (github.com/mrflogs/SHIP, run_coop).
N_AGES: Final = 5

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
        new_classes=False,
    ),
    # From arXiv:2307.07397 and CoCoOp, whose source is ImageNet with 16 shots. The source's classes
    # are seen; classes that only a target has are unseen. One generator is fitted on the source. A
    # fine-tuner is trained for each target, with features synthesized for its unseen classes.
    # Selection uses images of the source only.
    "cross_dataset": Rules(
        "Cross-dataset transfer (CoCoOp): trained on the dataset, tested on `targets`.",
        new_classes=False,
        targets=True,
    ),
    # The same groups as in base_to_new, but with other metrics. The constant of calibrated stacking
    # is selected together with the epoch.
    "generalized_zero_shot": Rules(
        "Generalized zero-shot (Xian et al., arXiv:1707.00600): one softmax over all classes."
    ),
    # select_studied_classes puts `unseen_class` last.
    "single_unseen": Rules(
        "All classes but one are seen; metrics of generalized_zero_shot.", unseen_class=True
    ),
}


def find_unmet_requirements(trial: TrialConfig) -> Iterator[UnmetRequirement]:
    """Yield the requirements that a trial's configuration does not meet.

    Those that depend on the content of a dataset are checked by find_missing_data.
    """
    protocol, rules = trial.protocol, PROTOCOLS[trial.protocol]
    when = f"when protocol is {protocol}"
    if rules.targets and trial.selection in LEAKING_SELECTIONS:
        yield UnmetRequirement("selection", f"must not use test images {when}")
    elif trial.selection == "pseudo_new" and not (rules.new_classes or rules.targets):
        yield UnmetRequirement(
            "selection", f"must not be pseudo_new {when}, which has no new classes"
        )
    if trial.unseen_images_key and not rules.new_classes:
        key, value = trial.unseen_images_key
        rule = f"must not be {value} {when}, which has no images of new classes"
        yield UnmetRequirement(key, rule)
    if trial.targets and not rules.targets:
        yield UnmetRequirement("targets", "requires protocol cross_dataset")
    elif rules.targets and not trial.targets:
        yield UnmetRequirement("targets", f"must be a list of datasets {when}")
    elif trial.dataset in trial.targets:
        rule = "must differ from the dataset that is trained on"
        yield UnmetRequirement(f"targets[{trial.targets.index(trial.dataset)}]", rule)
    if trial.unseen_class is not None and not rules.unseen_class:
        yield UnmetRequirement("unseen_class", "requires protocol single_unseen")
    if trial.objective is not None:
        yield from _check_objective(trial)
    yield from _check_metrics(trial)


def _check_metrics(trial: TrialConfig) -> Iterator[UnmetRequirement]:
    """Yield the unmet requirements of metric plugins.

    They support a single tested model, so neither cross_dataset nor selection authors.
    """
    for index, name in enumerate(trial.metrics):
        if name not in METRICS:
            rule = "must be the name of a metric that --plugin loads"
            yield UnmetRequirement(f"metrics[{index}]", rule, tuple(METRICS))
    if trial.metrics and PROTOCOLS[trial.protocol].targets:
        yield UnmetRequirement("metrics", f"cannot be combined with protocol {trial.protocol}")
    if trial.metrics and trial.selection == "authors":
        yield UnmetRequirement("metrics", "cannot be combined with selection authors")


def _check_objective(trial: TrialConfig) -> Iterator[UnmetRequirement]:
    """Yield a requirement if the selection cannot measure the objective on its images."""
    objectives = OBJECTIVES[trial.protocol]
    seen_only = SEEN_OBJECTIVES[trial.protocol]  # one of the objectives
    selection, objective = trial.selection, trial.objective
    if selection == "none":
        rule = "cannot be combined with selection none, which evaluates no epoch"
        yield UnmetRequirement("objective", rule)
    elif selection in SEEN_SELECTIONS and objective != seen_only:
        rule = f"must be {seen_only} when selection is {selection}, which uses no new classes"
        yield UnmetRequirement("objective", rule)
    elif objective not in objectives:
        rule = f"must be a metric of protocol {trial.protocol}"
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
        Kind of missing data ("classes", "shots", "few_shot", "real", or a split) -> text of a
        message that follows the dataset, "must have ...". Empty if nothing is missing.
    """
    from ship.datasets.base import shorten_list  # it imports Pillow

    features = select_studied_classes(config, features)
    rules, n_classes = PROTOCOLS[config.protocol], len(features.class_names)
    seen, unseen = np.split(np.arange(n_classes), [rules.count_seen(n_classes, features.n_base)])
    if rules.new_classes and not (len(seen) and len(unseen)):
        return {"classes": f"must have at least 2 classes, but {features.dataset} has {n_classes}"}
    missing: dict[str, str] = {}

    def note_missing(
        kind: str, classes: Ids, split: str, images: str, advice: str = "", *, some: bool = False
    ) -> None:
        """Record classes without images in a split; with `some`, only if all of them have none."""
        lacking = np.setdiff1d(classes, getattr(features, f"{split}_labels"))
        is_fault = len(lacking) > 0 and (not some or len(lacking) == len(classes))
        if is_fault and kind not in missing:
            names = shorten_list(repr(features.class_names[label]) for label in lacking)
            lack = f"{features.dataset} has none of {names}"
            missing[kind] = f"must have {images}, but {lack}{advice}"

    note_missing("train", seen, "train", "training images of every seen class")
    missing |= _find_few_shot_faults(config, features, seeds)
    purpose = "for the control real_images (controls: false skips it)" if real_images else ""
    if config.unseen_images_key:
        purpose = "when {} is {}".format(*config.unseen_images_key)
    if purpose:
        note_missing("real", unseen, "train", f"training images of every unseen class {purpose}")
    pseudo_new = config.selection == "pseudo_new"
    reason = _explain_validation(config)
    if pseudo_new and len(seen) < 2:
        missing["val"] = (
            "must have at least 2 seen classes when selection is pseudo_new, but "
            f"{features.dataset} has {len(seen)} under protocol {config.protocol}"
        )
    elif reason:
        images = f"validation images of seen classes when {reason}"
        by_selection = config.selection not in ("none", *LEAKING_SELECTIONS)
        advice = "Use selection: none" if by_selection else "Remove generator.early_stopping"
        note_missing("val", seen, "val", images, f". {advice}", some=True)
    if pseudo_new and len(seen) >= 2:
        lacking = np.setdiff1d(seen, features.val_labels)
        bad_seeds = [
            seed
            for seed in seeds
            for group in draw_pseudo_new(seen, config.pseudo_new_fraction, seed)
            if np.isin(group, lacking).all()
        ]
        if bad_seeds:
            condition = f"{reason} (not met by seeds {shorten_list(bad_seeds)})"
            images = f"validation images of seen and of pseudo-new classes when {condition}"
            note_missing("val", seen, "val", images, ". Use selection: base_val or none")
    if not rules.targets:  # with targets, the dataset needs no test images
        note_missing("test", seen, "test", "test images of seen classes", some=True)
        note_missing("test", unseen, "test", "test images of unseen classes", some=True)
    return missing


def _find_few_shot_faults(
    config: TrialConfig, features: FeatureSet, seeds: Sequence[int]
) -> dict[str, str]:
    """Return the faults of a split file's few-shot lists for a trial; see find_missing_data."""
    from ship.datasets.base import shorten_list  # it imports Pillow

    missing: dict[str, str] = {}
    if not features.few_shot:
        return missing
    if lacking := [seed for seed in seeds if seed not in features.few_shot]:
        missing["few_shot"] = (
            "must have few-shot images of every seed, but its split file has none of seeds"
            f" {shorten_list(lacking)}"
        )
    rows = features.few_shot.values()
    listed = max(int(np.bincount(features.train_labels[drawn]).max(initial=0)) for drawn in rows)
    if config.shots not in (None, listed):
        missing["shots"] = (
            f"must have few-shot lists of {config.shots} images per class, but they have {listed}."
            f" Use shots: {listed}"
        )
    return missing


def _explain_validation(config: TrialConfig) -> str:
    """Return the reason why a trial needs validation images of seen classes, or "" if none."""
    if config.selection not in ("none", *LEAKING_SELECTIONS):
        return f"selection is {config.selection}"
    key, stopping = "generator.early_stopping", getattr(config.generator, "early_stopping", None)
    is_used = stopping is not None and config.generator.explain_unused(key) is None
    return f"{key} is given" if is_used else ""
