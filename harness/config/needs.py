"""What a trial needs that must be there: datasets that carry its settings, a backbone, memory."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from harness.config.space import baseline
from harness.config.study_config import StudyConfig
from harness.errors import Fault
from harness.wording import nearest
from ship.architectures import BackboneError, feature_dim, text_settings
from ship.plugins import PluginError
from ship.requirements import PROTOCOLS, lacking, requirements
from ship.settings import NamedSettings
from ship.subsets import FeatureSet
from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from ship.datasets import PictureDataset, Survey

# A trained weight, its gradient and AdamW's two moments, in float32.
BYTES_A_WEIGHT: Final = 16
BYTES_A_NUMBER: Final = 4
GIB: Final = 2**30


class Needs:
    """What a study's trials need, trial by trial; each dataset and backbone is looked at once.

    No picture's content is read.
    """

    def __init__(self, study: StudyConfig, data_root: Path | None, memory: int | None) -> None:
        """Look at nothing yet.

        Args:
            study: its seeds and arms are looked at.
            data_root: where the datasets that are not packaged lie.
            memory: bytes of the machine that trials run on; None: not known.
        """
        own = study.trial.dataset
        self._arm = baseline(study).get("dataset", own) if study.reference_arms else None
        self._seeds, self._memory = study.seeds, memory
        self._survey = cache(lambda name: _survey(name, data_root))
        self._backbone = cache(_unfit)
        self._known: set[tuple[Any, ...]] = set()

    def faults(self, trial: TrialConfig) -> Iterator[Fault]:
        """Datasets and backbones that are unknown, unfit or not there, and sizes beyond memory."""
        unsuited = list(_source_faults(trial))
        named = {} if unsuited else {"dataset": trial.dataset}
        if PROTOCOLS[trial.protocol].targets:  # else they are to be left out
            named |= {f"targets[{index}]": name for index, name in enumerate(trial.targets)}
        yield from unsuited
        for key, name in named.items():
            survey = self._survey(name)
            if isinstance(survey, list):
                yield from (replace(fault, path=key) for fault in survey)
            elif key == "dataset" and not any(requirements(trial)):
                yield from self._unfit_dataset(trial, survey)
        if reason := self._backbone(trial.backbone):
            yield Fault("backbone", reason)
            return
        yield from _prompt_faults(trial)
        if self._memory is not None:
            yield from _memory_faults(trial, self._memory)

    def _unfit_dataset(self, trial: TrialConfig, survey: "Survey") -> Iterator[Fault]:
        """Classes and pictures that it lacks: a line for each kind, of the first such setting."""
        from ship.datasets import has_unseen_pictures

        if (needs := _needs(trial)) in self._known:
            return
        self._known.add(needs)
        bare, name = bare_features(trial.dataset, survey), trial.unseen_class
        if name is not None and name not in bare.class_names:
            must, near = f"must be a class of {trial.dataset}", nearest(name, bare.class_names)
            yield Fault("unseen_class", must, name, bare.class_names, near)
            return
        shown = trial.dataset == self._arm and PROTOCOLS[trial.protocol].new_classes
        shown = shown and has_unseen_pictures(trial.dataset)
        for kind, must in lacking(trial, bare, self._seeds, shown=shown).items():
            if (trial.dataset, kind) not in self._known:
                self._known.add((trial.dataset, kind))
                yield Fault("dataset", must)


def _survey(name: str, data_root: Path | None) -> "Survey | list[Fault]":
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
    hint = " (give --data-root DIR)"
    hints = (hint if "needs a data root" in line else "" for line in survey.faults)
    lines = zip(survey.faults, hints, strict=True)
    return [Fault("", f"must be readable: {line}{hint}") for line, hint in lines] or survey


def _source_faults(trial: TrialConfig) -> Iterator[Fault]:
    """What is trained on must have training pictures, of every class that is to be shown."""
    from ship.datasets import DATASETS, has_unseen_pictures

    name, protocol = trial.dataset, trial.protocol
    try:
        spec = DATASETS.get(name)
    except PluginError:  # a line of its own
        return
    if getattr(spec, "target", False):  # one of ImageNet's
        must = "must have training pictures (this one is for targets, under cross_dataset)"
        yield Fault("dataset", must, name)
    elif not has_unseen_pictures(name):
        if PROTOCOLS[protocol].unseen_class or not PROTOCOLS[protocol].new_classes:
            must = f"must have training pictures of every class when protocol is {protocol}"
            yield Fault("dataset", must, name)
        elif trial.generator.name == "real":
            must = f"must not be real: {name} has no training pictures of its unseen classes"
            yield Fault("generator", must, "real")


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
    labels = {split: part.labels for split, part in survey.splits.items()}
    empty = {split: np.empty((len(own), 0), np.float32) for split, own in labels.items()}
    return FeatureSet(
        class_names=survey.class_names, template="{}", dataset=name, dataset_fingerprint="",
        backbone_fingerprint="", n_seen=survey.n_seen,
        train=empty["train"][:, None], val=empty["val"], test=empty["test"],
        **{f"{split}_labels": own for split, own in labels.items()},
    )  # fmt: skip


def _unfit(backbone: str) -> str:
    """Why a backbone cannot be loaded, in words; "" where it can."""
    if backbone == "pocket":  # packaged: spares the seconds that importing the towers takes
        return ""
    from ship.clip import check_backbone_name

    try:
        check_backbone_name(backbone)
    except BackboneError as error:
        reason = str(error)
        return reason if reason.startswith("must") else f"must load: {reason}"
    return ""


def _prompt_faults(trial: TrialConfig) -> Iterator[Fault]:
    """Contexts that leave a prompt no room for SOT, a class name and EOT; layers that are none."""
    text, at = text_settings(trial.backbone), f"for backbone {trial.backbone}"
    most = text.context_length - 3
    for group in ("generator", "finetuner"):
        n_ctx = getattr(getattr(trial, group), "n_ctx", 0)
        if isinstance(n_ctx, int) and n_ctx > most:
            yield Fault(f"{group}.n_ctx", f"must be at most {most} {at}", n_ctx)
    layer = getattr(trial.finetuner, "layer", None)
    if isinstance(layer, int) and layer >= text.layers:
        must = f"must be 1 to {text.layers - 1} {at}, whose text tower has {text.layers} blocks"
        yield Fault("finetuner.layer", must, layer)


def _memory_faults(trial: TrialConfig, memory: int) -> Iterator[Fault]:
    """Sizes that one seed's networks, or its synthetic features, would need more memory for."""
    size = feature_dim(trial.backbone)

    def too_large(key: str, value: int, taken: int) -> Iterator[Fault]:
        if taken > memory:
            needed, has = (f"{n_bytes / GIB:,.0f} GiB" for n_bytes in (taken, memory))
            must = f"must fit into this machine's memory of {has}: one seed needs {needed} or more"
            yield Fault(key, must, value)

    for group in ("generator", "finetuner"):
        given: NamedSettings = getattr(trial, group)
        key = _largest(given, size)
        taken = BYTES_A_WEIGHT * given.n_weights(size)
        yield from too_large(f"{group}.{key}", getattr(given, key, 0), taken)
    key, features = "synthetic.per_class", trial.synthetic.per_class or 0
    if not trial.unread_reason(key):
        yield from too_large(key, features, BYTES_A_NUMBER * features * size)


def _largest(given: NamedSettings, size: int) -> str:
    """The setting without which the fewest weights would be left."""
    numbers = [key for key, value in given if type(value) is int]
    left = {key: given.model_copy(update={key: 1}).n_weights(size) for key in numbers}
    return min(left, key=lambda key: left[key], default="")
