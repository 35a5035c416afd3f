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
from ship.protocol_rules import PROTOCOLS, find_missing_data, find_unmet_requirements
from ship.subsets import make_bare_features
from ship.templates import DATASET_TEMPLATE
from ship.trial_config import TrialConfig

# Values of a trial that determine, with early stopping, which classes and images it needs.
_get_data_options = attrgetter(
    "dataset",
    "max_classes",
    "unseen_class",
    "selection",
    "pseudo_new_fraction",
    "unseen_images_setting",
)


class DataRequirements:
    """Checks of the datasets and backbones of a study's trials. Each is read once.

    No image is decoded.
    """

    def __init__(self, study: StudyConfig, data_root: Path | None) -> None:
        """Prepare the checks, without reading anything yet.

        Args:
            study: Study whose seeds and controls are considered.
            data_root: Folder of the datasets that are not packaged.
        """
        self._study = study
        self._scan = cache(partial(_scan_dataset, data_root, study.folder_options))
        self._check_backbone = cache(_check_backbone)
        self._find_truncation = cache(self._find_truncated_names)
        self._checked: set[Any] = set()  # requirements whose dataset was checked

    def find_faults(self, trial: TrialConfig) -> Iterator[Fault]:
        """Yield a fault for each dataset or backbone that is unknown, missing or unsuitable."""
        names_by_key = {"dataset": trial.dataset}
        if PROTOCOLS[trial.protocol].has_targets:  # other protocols refuse targets
            names_by_key |= {f"targets[{index}]": name for index, name in enumerate(trial.targets)}
        for key, name in names_by_key.items():
            scan = self._scan(name)
            if isinstance(scan, list):
                yield from (replace(fault, path=key) for fault in scan)
            elif key == "dataset" and not any(find_unmet_requirements(trial)):
                yield from self._find_data_faults(trial, scan)
        reason, text_settings = self._check_backbone(trial.backbone)
        if reason:
            yield Fault("backbone", reason)
            return
        yield from _find_prompt_faults(trial, text_settings)
        for key, name in names_by_key.items():
            rule = self._find_truncation(trial.backbone, name, trial.templates_for(name))
            if rule:
                is_default = trial.templates == (DATASET_TEMPLATE,)
                if is_default:
                    yield Fault(key, rule)
                else:
                    yield Fault("templates", rule, trial.templates)

    def _find_truncated_names(self, backbone: str, dataset: str, templates: tuple[str, ...]) -> str:
        """Return a fault's rule if classes have equal prompts after truncation, else ""."""
        scan, max_tokens = self._scan(dataset), get_text_settings(backbone).context_length
        if isinstance(scan, list):
            return ""
        default = DATASETS.get(dataset, datasets.ImageFolder).template
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
            f"must result in a different prompt for each class of {dataset}: {backbone} truncates "
            f"prompts to {max_tokens} tokens, and then {n_equal} have equal prompts: "
            f"{shorten_list(names)}"
        )

    def _find_data_faults(self, trial: TrialConfig, scan: datasets.DatasetScan) -> Iterator[Fault]:
        """Yield a fault for each kind of classes or images that the trial's dataset lacks.

        Trials with the same requirements are checked only once.
        """
        key = "generator.early_stopping"
        stops_early = (
            get_value(trial, key) is not None and trial.generator.explain_unused(key) is None
        )
        # the number of shots matters only for a split that lists the few-shot images
        listed_shots = trial.shots if scan.few_shot else None
        requirement_key = (*_get_data_options(trial), stops_early, listed_shots)
        if requirement_key in self._checked:
            return
        self._checked.add(requirement_key)
        labels, name = make_bare_features(trial.dataset, scan), trial.unseen_class
        if name is not None and name not in labels.class_names:
            rule = f"must be a class of {trial.dataset}"
            yield Fault("unseen_class", rule, name, labels.class_names)
            return
        study = self._study
        runs_real_images = (  # the control
            study.controls
            and PROTOCOLS[trial.protocol].has_new_classes
            and trial.dataset == make_baseline(study).get("dataset", trial.dataset)
            and datasets.has_unseen_training_images(trial.dataset)
        )
        for rule in find_missing_data(
            trial, labels, study.seeds, real_images=runs_real_images
        ).values():
            yield Fault("dataset", rule)


def _scan_dataset(
    data_root: Path | None, options: Mapping[str, Mapping[str, Any]], name: str
) -> datasets.DatasetScan | list[Fault]:
    """Return the scan of a dataset, or, if it is unusable, the reasons as faults without a path."""
    if fault := find_unknown_dataset(name, data_root):
        return [fault]
    folder = datasets.ImageFolder(**options.get(name, {}))
    scan = datasets.scan_dataset(name, data_root, folder)
    reasons = [
        f"{reason} (set data_root, --data-root DIR)" if "needs a data root" in reason else reason
        for reason in scan.faults
    ]
    return [Fault("", f"is not usable: {reason}") for reason in reasons] or scan


def find_unknown_dataset(name: str, data_root: Path | None = None) -> Fault | None:
    """Return a fault without a path if a dataset's name is unknown, else None.

    image_folder:NAME is known whether or not the folder exists.

    Args:
        name: Name of the dataset.
        data_root: Folder whose subfolders may be suggested as image_folder:NAME. None suggests only
            known names.
    """
    if name in DATASETS or name.startswith(datasets.PREFIX):
        return None
    suggestion = datasets.find_nearest_dataset(name, data_root)
    return Fault(
        "", "is not a known dataset", name, list_dataset_choices(), suggestion, advice=PLUGIN_ADVICE
    )


def list_dataset_choices() -> tuple[str, ...]:
    """Return the choices of `dataset`: the known names, and image_folder:NAME."""
    return (*DATASETS, f"{datasets.PREFIX}NAME")


def _check_backbone(name: str) -> tuple[str, Any]:
    """Check that a backbone can be loaded, without loading its weights.

    Returns:
        The reason why it cannot be loaded ("" if it can), and the settings of its text encoder
        (None if it cannot).
    """
    try:
        if name != "pocket":  # pocket is packaged, and importing the encoders takes seconds
            from ship.clip import check_backbone_name

            check_backbone_name(name)
        return "", get_text_settings(name)
    except BackboneError as error:
        reason = str(error)
        return reason if reason.startswith("must") else f"cannot be loaded: {reason}", None


def _find_prompt_faults(trial: TrialConfig, text_settings: Any) -> Iterator[Fault]:
    """Yield a fault for each context that is too long, and for a layer that does not exist.

    A context has to leave room for the start token, a class name and the end token.

    Args:
        trial: Config of the trial.
        text_settings: Settings of the backbone's text encoder.
    """
    max_n_ctx = text_settings.context_length - 3
    n_blocks, suffix = text_settings.layers, f"for backbone {trial.backbone}"
    for group in METHODS:
        n_ctx = get_value(trial, f"{group}.n_ctx")
        if isinstance(n_ctx, int) and n_ctx > max_n_ctx:
            yield Fault(f"{group}.n_ctx", f"must be at most {max_n_ctx} {suffix}", n_ctx)
    layer = get_value(trial, "finetuner.layer")
    if isinstance(layer, int) and layer >= n_blocks:
        reason = f"its text encoder has {n_blocks} blocks"
        problem = f"must be 1 to {n_blocks - 1} {suffix}"
        yield Fault("finetuner.layer", problem, layer, reason=reason)
