"""Datasets that a study names: they are there, sound, and carry its settings."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config.checks.settings import Setting
from harness.config.space import baseline
from harness.config.study_config import StudyConfig
from harness.errors import Fault
from harness.wording import nearest
from ship.plugins import PluginError
from ship.requirements import PROTOCOLS, lacking, requirements
from ship.subsets import FeatureSet
from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from ship.datasets import PictureDataset, Survey

Found = Iterator[tuple[Setting, Fault]]


def dataset_faults(
    study: StudyConfig, settings: Sequence[Setting], data_root: Path | None
) -> Found:
    """Faults of the datasets: unknown, not on this disk, or unable to carry a setting.

    No picture's content is read.

    Args:
        study: its seeds and arms are looked at.
        settings: that it spans.
        data_root: where the datasets that are not packaged lie.
    """
    found = [(setting, fault) for setting in settings for fault in _source_faults(setting.trial)]
    unfit = {setting.trial.dataset for setting, _ in found}
    read: dict[str, Survey | list[Fault]] = {}
    for setting in settings:
        trial = setting.trial
        named = {"dataset": trial.dataset} if trial.dataset not in unfit else {}
        if PROTOCOLS[trial.protocol].targets:  # else they are to be left out
            named |= {f"targets[{index}]": name for index, name in enumerate(trial.targets)}
        for key, name in named.items():
            read[name] = told = read.get(name) or _read(name, data_root)
            if isinstance(told, list):
                found += [(setting, replace(fault, path=key)) for fault in told]
    surveys = {name: survey for name, survey in read.items() if not isinstance(survey, list)}
    yield from found
    yield from _fit_faults(study, settings, surveys)


def _read(name: str, data_root: Path | None) -> "Survey | list[Fault]":
    """What is there of a dataset, or why it cannot be read."""
    from ship.datasets import DATASETS, PREFIX, nearest_dataset, survey_dataset

    try:
        DATASETS.get(name)
    except PluginError as error:
        return [Fault("", f"must load: {error}")]
    if name not in DATASETS and not name.startswith(PREFIX):
        names = (*DATASETS.names(), f"{PREFIX}NAME")
        return [Fault("", "must be a dataset", name, names, nearest_dataset(name))]
    survey = survey_dataset(name, data_root)
    return [Fault("", f"must be readable: {line}{_hint(line)}") for line in survey.faults] or survey


def _hint(line: str) -> str:
    return " (give --data-root DIR)" if "needs a data root" in line else ""


def _source_faults(trial: TrialConfig) -> Iterator[Fault]:
    """What is trained on must have training pictures, of every class that is to be shown."""
    from ship.datasets import DATASETS, ImageNet, has_unseen_pictures

    name, protocol = trial.dataset, trial.protocol
    try:
        spec = DATASETS.get(name)
    except PluginError:  # a line of its own
        return
    if isinstance(spec, ImageNet) and spec.target:
        must = "must have training pictures (this one is for targets, under cross_dataset)"
        yield Fault("dataset", must, name)
    elif not has_unseen_pictures(name):
        if PROTOCOLS[protocol].unseen_class or not PROTOCOLS[protocol].new_classes:
            must = f"must have training pictures of every class when protocol is {protocol}"
            yield Fault("dataset", must, name)
        elif trial.generator.name == "real":
            must = f"must not be real: {name} has no training pictures of its unseen classes"
            yield Fault("generator", must, "real")


def _fit_faults(
    study: StudyConfig, settings: Sequence[Setting], surveys: dict[str, "Survey"]
) -> Found:
    """One line for each dataset and kind of what it lacks, of the first setting that needs it."""
    from ship.datasets import has_unseen_pictures

    features = {name: bare_features(name, survey) for name, survey in surveys.items()}
    arm = baseline(study).get("dataset", study.trial.dataset) if study.reference_arms else None
    known: set[tuple[Any, ...]] = set()
    told: set[tuple[str, str]] = set()
    for setting in settings:
        trial = setting.trial
        bare = features.get(trial.dataset)
        if bare is None or _needs(trial) in known or any(requirements(trial)):
            continue
        known.add(_needs(trial))
        if trial.unseen_class is not None and trial.unseen_class not in bare.class_names:
            name, names = trial.unseen_class, bare.class_names
            must, near = f"must be a class of {trial.dataset}", nearest(name, names)
            yield setting, Fault("unseen_class", must, name, names, near)
            continue
        shown = trial.dataset == arm and PROTOCOLS[trial.protocol].new_classes
        shown = shown and has_unseen_pictures(trial.dataset)
        for kind, must in lacking(trial, bare, study.seeds, shown=shown).items():
            if (trial.dataset, kind) not in told:
                told.add((trial.dataset, kind))
                yield setting, Fault("dataset", must)


def _needs(trial: TrialConfig) -> tuple[Any, ...]:
    """What decides which classes and pictures a trial needs."""
    generator = trial.generator
    return (
        trial.dataset, trial.max_classes, trial.unseen_class, trial.selection,
        trial.pseudo_new_fraction, generator.name == "real",
        getattr(generator, "early_stopping", None) is None,
        generator.unread_reason("generator.early_stopping"),
    )  # fmt: skip


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
