"""The settings that the variants of a varied group run with: a YAML's `variants`."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.config.factor import Factor
from harness.config.factors import GROUPS
from harness.config.mistakes import trial_faults
from harness.errors import Fault
from harness.wording import nearest
from ship.trial_config import TrialConfig

Variants = Mapping[str, Mapping[str, Mapping[str, Any]]]

_NAMED = tuple(key for key, tags in GROUPS.items() if "" not in tags)
_KNOWN = (*_NAMED, "dataset")
_OWN = (
    "max_classes", "shots", "views", "pseudo_new_fraction", "eval_every", "quality", "generator",
    "finetuner", "synthetic",
)  # fmt: skip
"""What a dataset may have of its own; the others say what a study measures, and of whom."""


def variant_faults(raw: Any, constants: Mapping[str, Any]) -> list[Fault]:
    """Faults of `variants`: group -> level of that group -> settings, each by itself.

    `dataset` has settings of single datasets, whether it is varied or not: what the study does not
    run waits.

    Args:
        raw: what the YAML has under `variants`, of whatever type.
        constants: the YAML's trial settings, groups as mappings with a name; may be faulty.
    """
    if not isinstance(raw, dict):
        return [Fault("variants", "must be a mapping of groups to their levels' settings", raw)]
    faults = []
    for group, levels in raw.items():
        path = f"variants.{group}"
        if group not in _KNOWN:
            must, near = "must be a group that a study can vary", nearest(str(group), _KNOWN)
            faults.append(Fault(path, must, choices=_KNOWN, near=near))
        elif not isinstance(levels, dict):
            faults.append(Fault(path, "must be a mapping of levels to settings", levels))
        else:
            for name, settings in levels.items():
                if group == "dataset":
                    faults += _dataset_faults(str(name), settings, constants)
                else:
                    faults += _level_faults(group, name, settings)
    return faults


def _level_faults(group: str, name: Any, settings: Any) -> list[Fault]:
    path, names = f"variants.{group}.{name}", GROUPS[group]
    if name not in names:
        must = f"must be a level of space.{group}"
        return [Fault(path, must, choices=names, near=nearest(str(name), names))]
    if not isinstance(settings, dict) or "name" in settings:
        return [Fault(path, "must be a mapping of settings without name", settings)]
    found = trial_faults({group: {"name": name, **settings}})
    return [replace(fault, path=path + fault.path.removeprefix(group)) for fault in found]


def _dataset_faults(name: str, settings: Any, constants: Mapping[str, Any]) -> list[Fault]:
    from ship.datasets import DATASETS, PREFIX, nearest_dataset

    path = f"variants.dataset.{name}"
    if name not in DATASETS and not name.startswith(PREFIX):
        choices = (*DATASETS.names(), f"{PREFIX}NAME")
        return [Fault(path, "must be a dataset", choices=choices, near=nearest_dataset(name))]
    if not isinstance(settings, dict):
        return [Fault(path, "must be a mapping of settings", settings)]
    faults: list[Fault] = []
    for key, value in settings.items():
        if key not in _OWN:
            must = "must be a setting that a dataset may have of its own"
            near = nearest(str(key), _OWN)
            faults.append(Fault(f"{path}.{key}", must, choices=_OWN, near=near))
        elif key in GROUPS and not isinstance(value, dict):
            faults.append(Fault(f"{path}.{key}", "must be a mapping of settings", value))
        else:
            found = _own_faults(key, value, constants)
            faults += [replace(fault, path=f"{path}.{fault.path}") for fault in found]
    return faults


def _own_faults(key: str, value: Any, constants: Mapping[str, Any]) -> list[Fault]:
    """Faults of a setting of a dataset's own; a group's is of the constant where it names none."""
    if key not in _NAMED or "name" in value:
        return trial_faults({key: value})
    constant = constants.get(key)
    name = constant.get("name") if isinstance(constant, dict) else None
    # a constant that is faulty itself has a line of its own
    return trial_faults({key: {"name": name, **value}}) if name in GROUPS[key] else []


def unread_variants(
    variants: Variants, space: Mapping[str, Factor], trial: TrialConfig
) -> Iterator[Fault]:
    """Sound variants that no setting of a study would run with.

    A group's constant has its settings at the top level, and a factor goes over what a dataset has.

    Args:
        space: the study's factors.
        trial: its constants.
    """
    unused = []
    for group in (name for name in _NAMED if name in variants):
        constant = getattr(trial, group).name
        levels = space[group].choices or () if group in space else ()
        spare = [f"{group}.{name}" for name in variants[group] if name not in levels]
        unused += spare if levels else [group]
        if constant in levels and constant in variants[group]:
            must = f"must stand under {group}, as {constant} is the study's constant"
            yield Fault(f"variants.{group}.{constant}", must)
    if unused:
        drops = " ".join(f"--set variants.{path}=null" for path in unused)
        must = f"must be for levels of the space, unlike {', '.join(unused)} (drop them: {drops})"
        yield Fault("variants", must)
    must = "must be left out: it is a factor of the space"
    for dataset, settings in variants.get("dataset", {}).items():
        for key, value in settings.items():
            names = [f"{key}.{leaf}" for leaf in value] if isinstance(value, dict) else [key]
            for name in names:
                if name in space and not space[name].when:
                    yield Fault(f"variants.dataset.{dataset}.{name}", must)
