"""A study: one YAML file as typed settings, or every fault of it at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.checks import study_faults
from harness.config.checks.settings import value_of
from harness.config.dotted import place
from harness.config.factor import Factor, is_among, is_within
from harness.config.factors import FIELDS, GROUPS, parse_space
from harness.config.mistakes import AS_TEXT, from_pydantic, trial_faults
from harness.config.overrides import Override, apply_overrides, parse_overrides
from harness.config.plugins import load_named
from harness.config.study_config import REMOVED, STUDY_KEYS, TRIAL_KEYS, StudyConfig
from harness.config.variants import unread_variants, variant_faults
from harness.errors import ConfigError, Fault
from harness.study_files import find_space, label_of, read_yaml
from harness.wording import nearest
from ship.trial_config import TrialConfig


def load_study(
    path_or_name: str | Path,
    overrides: Sequence[str] = (),
    data_root: Path | None = None,
    *,
    there: bool = True,
    memory: int | None = None,
) -> StudyConfig:
    """Read a study from a YAML file, or from a packaged one by its name.

    Args:
        path_or_name: a file; without a folder, the working directory's comes before the packaged.
        overrides: "key=value" each, later ones win; see harness.config.overrides.
        data_root: where the datasets that are not packaged lie.
        there: whether datasets and backbones are looked at, which have to be there then.
        memory: bytes of the machine that trials run on; None: not known.

    Raises:
        ConfigError: as of parse_study.
    """
    path = find_space(path_or_name)
    label = label_of(path)
    return parse_study(
        read_yaml(path, label), path.stem, label=label, source=path, overrides=overrides,
        data_root=data_root, there=there, memory=memory,
    )  # fmt: skip


def parse_study(
    mapping: Mapping[str, Any],
    name: str,
    *,
    label: str = "study",
    source: Path | None = None,
    overrides: Sequence[str] = (),
    data_root: Path | None = None,
    there: bool = True,
    memory: int | None = None,
) -> StudyConfig:
    """A study from a mapping as a YAML file gives it.

    Args:
        name: the study's name where the mapping has none.
        label: what faults name as their source.
        there, memory: as of load_study.

    Raises:
        ConfigError: with every mistake of type at once (unknown keys, values that a key does not
            take), or, where there is none, with every other mistake at once.
    """
    given, bad = parse_overrides(overrides)
    written = {"name": name, **apply_overrides(mapping, given)}
    load_named(written)
    tree = _named(written)
    tree |= default_selection(tree)
    constants = {key: value for key, value in tree.items() if key in TRIAL_KEYS}
    variants = {} if tree.get("variants") is None else tree["variants"]
    faults = [_unknown(key) for key in tree if key not in (*STUDY_KEYS, *TRIAL_KEYS)]
    faults += map(_levels_astray, trial_faults(constants))
    space, found = parse_space(tree.get("space"), constants)
    faults += found
    left = variants
    if not (found := variant_faults(variants, constants)):
        constants, left = _settled(constants, variants, space, given)
        faults += map(_levels_astray, trial_faults(constants))
    settings, unsound = _parse_settings(tree, space)
    faults += found + unsound
    _refuse(bad, faults, given, label)
    trial = TrialConfig.model_validate(constants)
    with_baselines = {key: _with_baseline(key, factor, trial) for key, factor in space.items()}
    update = {"trial": trial, "space": with_baselines, "source": source, "variants": left}
    study = settings.model_copy(update=update)
    faults = [*_shadowed(space, given), *unread_variants(variants, space, trial)]
    faults += study_faults(study, data_root, there=there, memory=memory)
    _refuse((), faults, given, label)
    return study


def _refuse(
    lines: Sequence[str], faults: Sequence[Fault], given: Sequence[Override], label: str
) -> None:
    """Tell what was found, each fault as the file's or an override's; nothing where all is well."""
    told = [*lines, *(fault.line(_source(fault, given, label)) for fault in faults)]
    if told:
        raise ConfigError(list(dict.fromkeys(told)))


def default_selection(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The selection that a YAML means where it names none: few_shot has no new classes to hide."""
    space = tree.get("space")
    given = "selection" in tree or (isinstance(space, dict) and "selection" in space)
    return {"selection": "base_val"} if tree.get("protocol") == "few_shot" and not given else {}


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
    listed = isinstance(fault.got, list | dict) and fault.must != AS_TEXT
    if listed and fault.path in FIELDS and fault.path not in (*GROUPS, "targets"):
        return replace(fault, must=f"{fault.must} (levels stand under space)")
    return fault


def _unknown(key: Any) -> Fault:
    if key in REMOVED:
        return Fault(key, f"must be left out: {REMOVED[key]} (see CHANGELOG.md)")
    known = (*STUDY_KEYS, *TRIAL_KEYS)
    leaves = [name for name in FIELDS if name.rpartition(".")[2] == key]
    near = leaves[0] if leaves else nearest(str(key), known)
    choices = () if near else known  # of forty keys, the one that was meant is enough
    return Fault(str(key), "must be a known key", choices=choices, near=near)


def _parse_settings(
    tree: Mapping[str, Any], space: Mapping[str, Factor]
) -> tuple[StudyConfig, list[Fault]]:
    """The study's own keys; the default sampler depends on the space."""
    apart = ("space", "variants")
    own = {key: tree[key] for key in STUDY_KEYS if key in tree and key not in apart}
    endless = any(factor.enumerate() is None for factor in space.values())
    own.setdefault("sampler", "tpe" if endless else "grid")
    try:
        return StudyConfig.model_validate({**own, "trial": TrialConfig(), "space": {}}), []
    except ValidationError as error:
        nothing = StudyConfig(name="none", trial=TrialConfig(), space={})
        return nothing, from_pydantic(error, StudyConfig)


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
    levels, constant = factor.enumerate(), value_of(trial, key)
    if levels is None:
        update = {"baseline": constant} if is_within(factor, constant) else {}
    else:
        update = {"baseline": constant if is_among(constant, levels) else levels[0]}
    return factor.model_copy(update=update)
