"""A study: one YAML file as typed settings, or every fault of it at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.checks.backbones import need_faults
from harness.config.checks.levels import AS_TEXT, grid_faults, space_faults
from harness.config.checks.levels import trial_faults as check_trial
from harness.config.checks.protocols import (
    default_selection,
    objective_faults,
    protocol_faults,
)
from harness.config.checks.unread import warmup_faults
from harness.config.checks.variants import variant_faults
from harness.config.dotted import place
from harness.config.factor import Factor, is_among, is_within
from harness.config.factors import FIELDS, GROUPS, parse_space
from harness.config.mistakes import from_pydantic
from harness.config.overrides import Override, apply_overrides, parse_overrides
from harness.config.plugins import load_named
from harness.config.study_config import SELECTING, STUDY_KEYS, TRIAL_KEYS, StudyConfig
from harness.errors import ConfigError, Fault
from harness.study_files import find_space, label_of, read_yaml
from harness.wording import nearest
from ship.trial_config import TrialConfig


def load_study(
    path_or_name: str,
    overrides: Sequence[str] = (),
    data_root: Path | None = None,
    *,
    there: bool = True,
) -> StudyConfig:
    """Read a study from a YAML file, or from a packaged one by its name.

    Args:
        path_or_name: a file; without a folder, the working directory's comes before the packaged.
        overrides: "key=value" each, later ones win; see harness.config.overrides.
        data_root: where the datasets that are not packaged lie.
        there: whether datasets and backbones are looked at, which have to be there then.
    Raises:
        ConfigError: with every fault of file, overrides, datasets and backbones at once.
    """
    path = find_space(path_or_name)
    label = label_of(path)
    mapping, faults = read_yaml(path, label)
    return parse_study(
        mapping, path.stem, label=label, source=path, overrides=overrides,
        data_root=data_root, earlier=faults, there=there,
    )  # fmt: skip


def parse_study(
    mapping: Mapping[str, Any],
    name: str,
    *,
    label: str = "study",
    source: Path | None = None,
    overrides: Sequence[str] = (),
    data_root: Path | None = None,
    earlier: Sequence[Fault] = (),
    there: bool = True,
) -> StudyConfig:
    """A study from a mapping as a YAML file gives it.

    Args:
        name: the study's name where the mapping has none.
        label: what faults name as their source.
        earlier: faults that reading the file has found; reported with the others.
        there: as of load_study.
    Raises:
        ConfigError: with every fault at once.
    """
    given, bad = parse_overrides(overrides)
    faults = list(earlier)
    written = {"name": name, **apply_overrides(mapping, given)}
    load_named(written)
    tree = _named(written)
    tree |= default_selection(tree)
    faults += [_unknown(key) for key in tree if key not in (*STUDY_KEYS, *TRIAL_KEYS)]
    constants = {key: value for key, value in tree.items() if key in TRIAL_KEYS}
    variants = tree.get("variants")
    faults += [_levels_astray(fault) for fault in check_trial(constants)]
    space, found = parse_space(tree.get("space"))
    found += space_faults(space, constants) + protocol_faults(space, constants)
    found += objective_faults(space, constants)
    astray = variant_faults(variants, space, constants)
    if variants and not astray:
        constants, variants = _settled(constants, variants, space, given)
    found += astray
    faults += warmup_faults(space, constants, variants)
    faults += found + _shadowed(space, given)
    settings, found = _parse_settings(tree, space, constants, sound=not found)
    faults += found
    faults += need_faults(space, constants, data_root, variants, settings) if there else []
    lines = bad + [fault.line(_source(fault, given, label)) for fault in faults]
    if lines or settings is None:
        raise ConfigError(list(dict.fromkeys(lines)))
    trial = TrialConfig.model_validate(constants)
    with_baselines = {key: _with_baseline(key, factor, trial) for key, factor in space.items()}
    own = variants or {}
    update = {"trial": trial, "space": with_baselines, "source": source, "variants": own}
    return settings.model_copy(update=update)


def _named(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Give the groups that a YAML names shortly, or not at all, the mapping that they stand for."""
    named = dict(tree)
    for group, tags in GROUPS.items():
        inside = named.get(group, {})
        if "" not in tags and isinstance(inside, str):
            named[group] = {"name": inside}
        elif "" not in tags and isinstance(inside, dict):
            named[group] = {"name": getattr(TrialConfig(), group).name, **inside}
    return named


def _settled(
    constants: Mapping[str, Any],
    variants: Mapping[str, Any],
    space: Mapping[str, Factor],
    given: Sequence[Override],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the constant dataset has of its own is constant, too; a --set goes over it.

    Returns:
        The constants and the variants that are left.
    """
    if "dataset" in space:
        return dict(constants), dict(variants)
    whole = {"dataset": TrialConfig.model_fields["dataset"].default, **constants}
    own = {key: levels for key, levels in variants.items() if key == "dataset"}
    ours = [item for item in given if item.steps[0] in TRIAL_KEYS]
    settled = _named(apply_overrides(place(whole, {}, own), ours))
    return settled, {key: levels for key, levels in variants.items() if key not in own}


def _levels_astray(fault: Fault) -> Fault:
    """A constant given as a list or range is most likely a factor in the wrong place."""
    if isinstance(fault.got, dict) and "image_folder" in fault.got:
        return replace(fault, must=AS_TEXT)
    listed = isinstance(fault.got, list | dict)
    if listed and fault.path in FIELDS and fault.path not in (*GROUPS, "targets"):
        return replace(fault, must=f"{fault.must} (levels stand under space)")
    return fault


def _unknown(key: Any) -> Fault:
    known = (*STUDY_KEYS, *TRIAL_KEYS)
    leaves = [name for name in FIELDS if name.rpartition(".")[2] == key]
    near = leaves[0] if leaves else nearest(str(key), known)
    return Fault(str(key), "must be a known key", choices=known, near=near)


def _parse_settings(
    tree: Mapping[str, Any],
    space: Mapping[str, Factor],
    constants: Mapping[str, Any],
    *,
    sound: bool,
) -> tuple[StudyConfig | None, list[Fault]]:
    """The study's own keys, with defaults that depend on the space."""
    apart = ("space", "variants")
    own = {key: tree[key] for key in STUDY_KEYS if key in tree and key not in apart}
    endless = [key for key, factor in space.items() if factor.enumerate() is None]
    own.setdefault("sampler", "tpe" if endless else "grid")
    try:
        study = StudyConfig.model_validate({**own, "trial": TrialConfig(), "space": {}})
    except ValidationError as error:
        faults = from_pydantic(error, StudyConfig)
        study = None
    else:
        faults = []
    sampler = own["sampler"]
    if sampler in ("tpe", "random") and own.get("trials") is None and (sound or "sampler" in tree):
        faults.append(Fault("trials", f"must be given: how many settings {sampler} is to try"))
    if sampler in ("tpe", "random"):
        must = "must be a constant unless the sampler is grid: it decides what is maximised"
        faults += [Fault(f"space.{key}", must) for key in SELECTING if key in space]
    if constants.get("selection") == "none":
        must = "must be grid where selection is none, which measures nothing to be maximised"
        faults += [Fault("sampler", must, sampler)] if sampler != "grid" else []
        if study is not None and study.scheduler.name != "none":
            must = "must be none where selection is none, which measures nothing to be compared"
            faults.append(Fault("scheduler", must, study.scheduler.name))
    if sampler == "grid" and sound:
        faults += grid_faults(space, study.trials if study else None)
    return study, faults


def _shadowed(space: Mapping[str, Factor], given: Sequence[Override]) -> list[Fault]:
    """An override of a constant that the study varies would silently do nothing."""
    return [
        Fault(
            item.path,
            f"must not be a factor of the study to be set: use --set space.{item.path}=null to "
            f"drop the factor, or --set space.{item.path}.choices=[...] to change its levels",
        )
        for item in given
        if item.path in space
    ]


def _source(fault: Fault, given: Sequence[Override], label: str) -> str:
    """Whether a fault is the file's or an override's."""
    for item in given:
        inside = fault.path.removeprefix(item.path)
        if inside != fault.path and inside[:1] in ("", ".", "["):
            return "--set"
        below = item.path.removeprefix(f"{fault.path}.")
        if below != item.path and (below == "name" or item.path.startswith("space.")):
            return "--set"
    return label


def _with_baseline(key: str, factor: Factor, trial: TrialConfig) -> Factor:
    """Give a factor its baseline: the constant if that is a level, else its first level.

    A range without levels has the constant if it lies within, else no baseline.
    """
    if "baseline" in factor.model_fields_set:
        return factor
    levels, constant = factor.enumerate(), _constant(key, trial)
    if levels is None:
        update = {"baseline": constant} if is_within(factor, constant) else {}
    else:
        update = {"baseline": constant if is_among(constant, levels) else levels[0]}
    return factor.model_copy(update=update)


def _constant(key: str, trial: TrialConfig) -> Any:
    """The constant's value of a dotted name; a group's is its name; None where there is none."""
    value: Any = trial
    for part in key.split("."):
        value = getattr(value, part, None)
    return getattr(value, "name", value) if key in GROUPS else value
