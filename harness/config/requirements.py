"""Check that the datasets and the backbone of a trial exist and meet its requirements."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from harness.config.mapping import PLUGIN_ADVICE
from harness.config.space import METHODS, get_value, make_baseline
from harness.config.study_config import StudyConfig
from harness.errors import Fault
from ship import datasets
from ship.architectures import BackboneError, get_text_settings, load_tokenizer
from ship.datasets import DATASETS
from ship.datasets.base import count_noun, group_truncated, shorten_list
from ship.requirements import PROTOCOLS, find_missing_data, find_unmet_requirements
from ship.subsets import make_bare_features
from ship.templates import DATASET_TEMPLATE
from ship.trial_config import TrialConfig

# Fields of a trial that determine the classes and images it needs, in addition to early stopping.
_DECIDING = attrgetter(
    "dataset",
    "max_classes",
    "unseen_class",
    "selection",
    "pseudo_new_fraction",
    "unseen_images_key",
)


class DataRequirements:
    """Requirements of a study's trials. Each dataset and backbone is checked once.

    No image is decoded.
    """

    def __init__(self, study: StudyConfig, data_root: Path | None) -> None:
        """Prepare the checks, without reading anything yet.

        Args:
            study: Study whose seeds and controls are considered.
            data_root: Folder of the datasets that are not packaged.
        """
        self._study = study
        self._scan = cache(partial(_scan, data_root, study.folder_options))
        self._backbone = cache(_backbone)
        self._truncation_fault = cache(self._find_truncated_names)
        self._checked: set[Any] = set()

    def find_faults(self, trial: TrialConfig) -> Iterator[Fault]:
        """Yield faults of a trial's datasets and backbone: unknown, unsuitable or missing ones."""
        names_by_key = {"dataset": trial.dataset}
        if PROTOCOLS[trial.protocol].targets:  # otherwise targets themselves are a fault
            names_by_key |= {f"targets[{index}]": name for index, name in enumerate(trial.targets)}
        for key, name in names_by_key.items():
            scan = self._scan(name)
            if isinstance(scan, list):
                yield from (replace(fault, path=key) for fault in scan)
            elif key == "dataset" and not any(find_unmet_requirements(trial)):
                yield from self._unfit_dataset(trial, scan)
        reason, text = self._backbone(trial.backbone)
        if reason:
            yield Fault("backbone", reason)
            return
        yield from _prompt_faults(trial, text)
        for key, name in names_by_key.items():
            rule = self._truncation_fault(trial.backbone, name, trial.templates_for(name))
            if rule:
                is_default = trial.templates == (DATASET_TEMPLATE,)
                if is_default:
                    yield Fault(key, rule)
                else:
                    yield Fault("templates", rule, trial.templates)

    def _find_truncated_names(self, backbone: str, name: str, templates: tuple[str, ...]) -> str:
        """Return the fault of templates whose prompts are truncated before they differ, or ""."""
        scan, max_tokens = self._scan(name), get_text_settings(backbone).context_length
        if isinstance(scan, list):
            return ""
        default = DATASETS.get(name, datasets.ImageFolder).template
        sentences = [
            default if template == DATASET_TEMPLATE else template for template in templates
        ]
        groups = group_truncated(
            scan.class_names, sentences, max_tokens, partial(load_tokenizer, backbone)
        )
        names = [class_name for group in groups for class_name in group]
        if not names:
            return ""
        n_equal = count_noun(names, "class name")
        return (
            f"must result in a different prompt for each class of {name}: {backbone} truncates "
            f"prompts to {max_tokens} tokens, and then {n_equal} have equal prompts: "
            f"{shorten_list(names)}"
        )

    def _unfit_dataset(self, trial: TrialConfig, scan: datasets.DatasetScan) -> Iterator[Fault]:
        """Yield the classes and images that a dataset lacks, once for equal requirements."""
        key = "generator.early_stopping"
        stops = get_value(trial, key) is not None and trial.generator.explain_unused(key) is None
        listed_shots = trial.shots if scan.few_shot else None
        requirement_key = (*_DECIDING(trial), stops, listed_shots)
        if requirement_key in self._checked:
            return
        self._checked.add(requirement_key)
        labels, name = make_bare_features(trial.dataset, scan), trial.unseen_class
        if name is not None and name not in labels.class_names:
            rule = f"must be a class of {trial.dataset}"
            yield Fault("unseen_class", rule, name, labels.class_names)
            return
        study = self._study
        shows_real = (
            study.controls
            and PROTOCOLS[trial.protocol].new_classes
            and trial.dataset == make_baseline(study).get("dataset", trial.dataset)
            and datasets.has_unseen_images(trial.dataset)
        )
        for rule in find_missing_data(trial, labels, study.seeds, real_images=shows_real).values():
            yield Fault("dataset", rule)


def _scan(
    data_root: Path | None, options: Mapping[str, Mapping[str, Any]], name: str
) -> datasets.DatasetScan | list[Fault]:
    """Return the scan of a dataset, or the faults without a path that make it unreadable."""
    if fault := find_unknown_dataset(name, data_root):
        return [fault]
    folder = datasets.ImageFolder(**options.get(name, {}))
    scan = datasets.scan_dataset(name, data_root, folder)
    lines = [
        f"{line} (set data_root, --data-root DIR)" if "needs a data root" in line else line
        for line in scan.faults
    ]
    return [Fault("", f"is not usable: {line}") for line in lines] or scan


def find_unknown_dataset(name: str, data_root: Path | None = None) -> Fault | None:
    """Return the fault of an unknown dataset name, without a path, or None if it is known.

    Args:
        name: Name of the dataset.
        data_root: Folder whose subfolders are suggested in place of an unknown name.
    """
    if name in DATASETS or name.startswith(datasets.PREFIX):
        return None
    suggestion = datasets.find_nearest_dataset(name, data_root)
    return Fault(
        "", "is not a known dataset", name, list_dataset_choices(), suggestion, advice=PLUGIN_ADVICE
    )


def list_dataset_choices() -> tuple[str, ...]:
    """Return the choices of `dataset`, with NAME in place of the name of a custom folder."""
    return (*DATASETS, f"{datasets.PREFIX}NAME")


def _backbone(name: str) -> tuple[str, Any]:
    """Return why a backbone cannot be loaded ("" if it can), and its text encoder's settings."""
    try:
        if name != "pocket":  # it is packaged, and importing the encoders takes seconds
            from ship.clip import check_backbone_name

            check_backbone_name(name)
        return "", get_text_settings(name)
    except BackboneError as error:
        reason = str(error)
        return reason if reason.startswith("must") else f"cannot be loaded: {reason}", None


def _prompt_faults(trial: TrialConfig, text: Any) -> Iterator[Fault]:
    """Yield faults of too long contexts and of layers that the text encoder lacks.

    A context has to leave room for the start token, a class name and the end token.
    """
    max_n_ctx, suffix = text.context_length - 3, f"for backbone {trial.backbone}"
    for group in METHODS:
        n_ctx = get_value(trial, f"{group}.n_ctx")
        if isinstance(n_ctx, int) and n_ctx > max_n_ctx:
            yield Fault(f"{group}.n_ctx", f"must be at most {max_n_ctx} {suffix}", n_ctx)
    layer = get_value(trial, "finetuner.layer")
    if isinstance(layer, int) and layer >= text.layers:
        rule = f"must be 1 to {text.layers - 1} {suffix}: its text encoder has {text.layers} blocks"
        yield Fault("finetuner.layer", rule, layer)
