"""The settings that the variants of a varied group run with: a YAML's `variants`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.config.checks.levels import trial_faults
from harness.config.factor import Factor
from harness.config.factors import GROUPS
from harness.errors import Fault
from harness.wording import nearest

Variants = Mapping[str, Mapping[str, Mapping[str, Any]]]

_NAMED = tuple(key for key, tags in GROUPS.items() if "" not in tags)


def variant_faults(
    raw: Any, space: Mapping[str, Factor], constants: Mapping[str, Any]
) -> list[Fault]:
    """Faults of `variants`: group -> level of that group -> settings, each as it may stand there.

    A group's constant has its settings at the top level; the others have them here.

    Args:
        raw: what the YAML has under `variants`, of whatever type; None: nothing.
        space: the study's factors.
        constants: as the YAML gives them; may be faulty themselves.
    """
    if raw is None:
        return []
    if not isinstance(raw, dict):
        return [Fault("variants", "must be a mapping of groups to their levels' settings", raw)]
    faults = []
    for group, levels in raw.items():
        path = f"variants.{group}"
        if group not in _NAMED:
            must, near = "must be a group that a study can vary", nearest(str(group), _NAMED)
            faults.append(Fault(path, must, choices=_NAMED, near=near))
        elif group not in space:
            faults.append(Fault(path, f"must be a factor of the space: {group} is a constant here"))
        elif not isinstance(levels, dict):
            faults.append(Fault(path, "must be a mapping of levels to settings", levels))
        else:
            for name, settings in levels.items():
                faults += _level_faults(group, name, settings, space[group], constants)
    return faults


def _level_faults(
    group: str, name: Any, settings: Any, factor: Factor, constants: Mapping[str, Any]
) -> list[Fault]:
    path = f"variants.{group}.{name}"
    levels = tuple(str(level) for level in factor.choices or ())
    if name not in levels:
        must = f"must be a level of space.{group}"
        return [Fault(path, must, choices=levels, near=nearest(str(name), levels))]
    inside = constants.get(group)
    if isinstance(inside, dict) and inside.get("name") == name:
        return [Fault(path, f"must stand under {group}, as {name} is the study's constant")]
    if not isinstance(settings, dict) or "name" in settings:
        return [Fault(path, "must be a mapping of settings without name", settings)]
    return [
        replace(fault, path=path + fault.path.removeprefix(group))
        for fault in trial_faults({group: {"name": name, **settings}})
        if fault.path.partition(".")[0] == group
    ]
