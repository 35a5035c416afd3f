"""What a study needs beside its YAML: datasets and backbones that are there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.checks.datasets import dataset_faults, named_values
from harness.config.factor import Factor
from harness.config.factors import indexed, own_settings
from harness.config.study_config import StudyConfig
from harness.errors import Fault
from ship.architectures import BackboneError, context_length


def need_faults(
    space: Mapping[str, Factor],
    constants: Mapping[str, Any],
    data_root: Path | None,
    variants: Any = None,
    study: StudyConfig | None = None,
) -> list[Fault]:
    """Faults of the datasets and backbones that the study names: unknown, unfit or not there.

    Args:
        study: its own keys, if they are sound.
    """
    seeds, arms = (study.seeds, study.reference_arms) if study else ((), False)
    faults = dataset_faults(space, constants, data_root, variants, seeds, arms=arms)
    for path, name in named_values("backbone", space, constants):
        faults += _backbone_faults(path, name) or _context_faults(name, space, constants, variants)
    return faults


def _context_faults(
    backbone: str, space: Mapping[str, Factor], constants: Any, variants: Any
) -> list[Fault]:
    """Context vectors must leave room in a prompt for SOT, a class name and EOT."""
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
        levels = variants.get(group) if isinstance(variants, dict) else None
        for name, settings in levels.items() if isinstance(levels, dict) else ():
            if isinstance(settings, dict) and "n_ctx" in settings:
                found[f"variants.{group}.{name}.n_ctx"] = settings["n_ctx"]
        for place, settings in own_settings(variants, group).items():
            found[f"{place}.n_ctx"] = settings.get("n_ctx")
        for path, value in found.items():
            if isinstance(value, int) and value > most:
                faults.append(Fault(path, f"must be at most {most} for backbone {backbone}", value))
    return faults


def _backbone_faults(path: str, name: str) -> list[Fault]:
    if name == "pocket":  # packaged: spares the seconds that importing the towers takes
        return []
    from ship.clip import check_backbone_name

    try:
        check_backbone_name(name)
    except BackboneError as error:
        reason = str(error)
        return [Fault(path, reason if reason.startswith("must") else f"must load: {reason}")]
    return []
