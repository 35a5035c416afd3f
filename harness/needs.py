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
        faults += _source_faults(path, name) or _dataset_faults(path, name, data_root)
    for path, name in _targets(space, constants):
        faults += _dataset_faults(path, name, data_root)
    if not faults:
        faults += _unseen_faults(space, constants, data_root)
    for path, name in _values("backbone", space, constants):
        faults += _backbone_faults(path, name) or _context_faults(name, space, constants)
    return faults


def _source_faults(path: str, name: str) -> list[Fault]:
    """A dataset of test pictures alone can be a target, never what is trained on."""
    from ship.datasets import DATASETS
    from ship.datasets.imagenet import ImageNetTarget

    if not isinstance(DATASETS.get(name), ImageNetTarget):
        return []
    must = "must have training pictures (this one is for targets, under cross_dataset)"
    return [Fault(path, must, name)]


def _values(key: str, space: Mapping[str, Factor], constants: Any) -> Iterator[tuple[str, str]]:
    values = {key: constants.get(key, TrialConfig.model_fields[key].default)}
    if key in space:
        values = indexed(f"space.{key}.choices", space[key].choices or ())
    yield from ((path, value) for path, value in values.items() if isinstance(value, str))


def _targets(space: Mapping[str, Factor], constants: Any) -> Iterator[tuple[str, str]]:
    given = constants.get("targets")
    listed = indexed("targets", tuple(given)) if isinstance(given, list | tuple) else {}
    listed |= {"targets": given} if isinstance(given, str) else {}
    listed |= (
        indexed("space.targets.choices", space["targets"].choices or ())
        if ("targets" in space)
        else {}
    )
    yield from ((path, name) for path, name in listed.items() if isinstance(name, str))


def _unseen_faults(
    space: Mapping[str, Factor], constants: Any, data_root: Path | None
) -> list[Fault]:
    """unseen_class must be a class of every dataset of the study."""
    wanted = list(_values("unseen_class", space, constants))
    if not wanted:
        return []
    from ship.datasets import load_dataset

    faults = []
    for _, dataset in _values("dataset", space, constants):
        names = load_dataset(dataset, data_root).class_names
        for path, name in wanted:
            if name not in names:
                must = f"must be a class of {dataset}"
                faults.append(Fault(path, must, name, names, nearest(name, names)))
    return faults


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


def _context_faults(backbone: str, space: Mapping[str, Factor], constants: Any) -> list[Fault]:
    """Context vectors must leave room in a prompt for SOT, a class name and EOT."""
    from ship.architectures import context_length

    most = context_length(backbone) - 3
    faults = []
    for group in ("generator", "finetuner"):
        inside = constants.get(group)
        found = {f"{group}.n_ctx": inside.get("n_ctx")} if isinstance(inside, dict) else {}
        factor = space.get(f"{group}.n_ctx")
        if factor is not None:
            ends = {f"space.{group}.n_ctx.high": factor.high}
            places = f"space.{group}.n_ctx.choices"
            found = ends if factor.choices is None else indexed(places, factor.choices)
        for path, value in found.items():
            if isinstance(value, int) and value > most:
                faults.append(Fault(path, f"must be at most {most} for backbone {backbone}", value))
    return faults


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
