"""What a study needs beside its YAML: datasets and backbones that are there."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.factor import Factor
from harness.faults import Fault, nearest
from harness.parse import indexed
from ship.trial_config import TrialConfig


def need_faults(
    space: Mapping[str, Factor], constants: Mapping[str, Any], data_root: Path | None
) -> list[Fault]:
    """Faults of the datasets and backbones that the study names: unknown, or not on this disk."""
    faults = []
    for path, name in _values("dataset", space, constants):
        faults += _dataset_faults(path, name, data_root)
    for path, name in _values("backbone", space, constants):
        faults += _backbone_faults(path, name)
    return faults


def _values(key: str, space: Mapping[str, Factor], constants: Any) -> Iterator[tuple[str, str]]:
    values = {key: constants.get(key, TrialConfig.model_fields[key].default)}
    if key in space:
        values = indexed(f"space.{key}.choices", space[key].choices or ())
    yield from ((path, value) for path, value in values.items() if isinstance(value, str))


def _dataset_faults(path: str, name: str, data_root: Path | None) -> list[Fault]:
    from ship.datasets import DATASETS, DatasetError, check_dataset
    from ship.datasets.image_folder import PREFIX

    if name not in DATASETS and not name.startswith(PREFIX):
        near = nearest(name, DATASETS)
        return [Fault(path, "must be a dataset", name, (*DATASETS, f"{PREFIX}NAME"), near)]
    try:
        check_dataset(name, data_root)
    except DatasetError as error:
        hint = " (give --data-root DIR)" if data_root is None else ""
        return [Fault(path, f"must be readable: {line}{hint}") for line in error.faults]
    return []


def _backbone_faults(path: str, name: str) -> list[Fault]:
    if name == "pocket":  # packaged: spares the seconds that importing the towers takes
        return []
    from ship.backbone import BackboneError, check_backbone_name

    try:
        check_backbone_name(name)
    except BackboneError as error:
        reason = str(error)
        return [Fault(path, reason if reason.startswith("must") else f"must load: {reason}")]
    return []
