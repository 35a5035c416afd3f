"""Load a study's YAML file as a typed config, or raise an error with all of its faults."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from harness.config.defaults import add_defaults
from harness.config.factor import Factor, find_factor_faults, is_allowed
from harness.config.mapping import (
    OVERRIDE,
    Override,
    apply_overrides,
    parse_overrides,
    split_path,
    validate_part,
)
from harness.config.space import GROUPS, METHODS, get_value, list_trial_fields, resolve
from harness.config.study_config import STUDY_KEYS, TRIAL_KEYS, VARIANT_KEYS, StudyConfig
from harness.errors import NOTHING, ConfigError, Fault
from harness.removed import REMOVED
from harness.study_files import find_space, get_file_label, read_yaml, to_json
from harness.wording import nearest, printable
from ship.plugins import PluginError, load_plugin
from ship.trial_config import TrialConfig

_KNOWN = "is an unknown key"
# Names in other tools -> keys of a study.
_MEANT = {
    "metric": "objective",
    "model": "backbone",
    "data": "dataset",
    "learning_rate": "finetuner.lr",
    "num_samples": "n_trials",
    "num_seeds": "seeds",
}


def load_study(
    space: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    data_root: Path | None = None,
    *,
    label: str = "study",
    check_existence: bool = True,
) -> StudyConfig:
    """Load a study from a YAML file, from a packaged study's name, or from a mapping.

    Omitted keys have the backbone's defaults, see harness.config.defaults.

    Args:
        space: A YAML file, the name of a packaged study, or a mapping with the keys of a YAML. A
            file in the working directory is preferred to a packaged study of the same name. A
            mapping or its overrides must include `name`.
        overrides: Overrides of the form "key=value"; later ones win. See harness.config.mapping.
        data_root: Folder of the datasets that are not packaged.
        label: Name of a mapping in messages.
        check_existence: Whether to check that datasets and backbones exist.

    Raises:
        ConfigError: The study has faults. The message lists all unknown keys and invalid values,
            or, if there are none of these, all other faults.

    Example:
        >>> from harness.config import load_study
        >>> study = load_study("prompt_len", ["seeds=3"])
        >>> study.seeds
        (0, 1, 2)
    """
    source = None
    if isinstance(space, Mapping):
        tree = {str(key): to_json(value, f"{label}: {key}") for key, value in space.items()}
    else:
        source = find_space(space)
        label = get_file_label(source)
        tree = {"name": source.stem, **read_yaml(source, label)}
    # imported here, because workers do not need the dataset code that these import
    from harness.config.checks import StudyTrials, find_study_faults
    from harness.config.requirements import DataRequirements

    parsed, invalid_lines = parse_overrides(overrides)
    tree, blocked_lines = apply_overrides(tree, parsed)
    tree, defaults = add_defaults(tree)
    study, faults = _typed(tree, parsed)
    faulty_groups = {fault.path.removeprefix("space.").partition(".")[0] for fault in faults}
    trials = StudyTrials(study, faulty_groups)
    faults += trials.faults
    if invalid_lines or blocked_lines or faults:
        raise ConfigError([*invalid_lines, *blocked_lines, *_lines(faults, parsed, label)])
    faults = [*_shadowed(study.space, parsed), *find_study_faults(study, trials)]
    if "dataset" not in study.space:  # the variants of the only dataset become constants
        other_variants = {key: levels for key, levels in study.variants.items() if key != "dataset"}
        study = study.model_copy(update={"base": resolve(study, {}), "variants": other_variants})
    space = {key: _with_baseline(key, factor, study.base) for key, factor in study.space.items()}
    update = {"space": space, "source": source, "backbone_defaults": defaults}
    study = study.model_copy(update=update)
    if check_existence:
        faults += trials.find_faults(DataRequirements(study, data_root).find_faults)
    if faults:
        raise ConfigError(_lines(faults, parsed, label))
    return study


def _typed(tree: dict[str, Any], overrides: Sequence[Override]) -> tuple[StudyConfig, list[Fault]]:
    """Return the valid part of a YAML's mapping in long form as a study, and the faults."""
    keys = (*STUDY_KEYS, *TRIAL_KEYS)
    faults = [_unknown(key, _KNOWN, key, keys) for key in tree if key not in keys]
    if tree["space"] == {}:
        choices = _in_short(list_trial_fields())
        faults.append(Fault("space", "must have at least one factor", choices=choices))
    constants = {key: tree[key] for key in TRIAL_KEYS if key in tree}
    trial, trial_faults = validate_part(TrialConfig, constants)
    options: dict[str, Any] = {key: tree[key] for key in STUDY_KEYS if key in tree}
    factors, space_faults = dict[str, Factor](), list[Fault]()
    if isinstance(tree["space"], dict):
        factors, space_faults = _valid_factors(tree["space"])
        options["space"] = factors
    if trial.protocol == "few_shot" and "selection" not in {*tree, *factors}:
        trial = trial.model_copy(update={"selection": "base_val"})  # no new classes to hide
    if any(factor.enumerate() is None for factor in factors.values()):
        options.setdefault("sampler", "tpe")
    study, study_faults = validate_part(StudyConfig, {**options, "base": trial})
    faults += [*trial_faults, *study_faults, *_prune_variants(study.variants), *space_faults]
    if "dataset" not in factors:
        dataset_options = study.variants.get("dataset", {}).get(trial.dataset, {})
        _remove_overridden(dataset_options, overrides)
    return study, faults


def _prune_variants(variants: Mapping[str, Mapping[str, dict[str, Any]]]) -> list[Fault]:
    """Remove invalid keys from the variants of datasets, and return the faults of all variants.

    Whether a method has the keys of a variant and accepts their values is checked with the trials.
    """
    faults, groups = list[Fault](), (*METHODS, "dataset")
    for group in (group for group in variants if group not in groups):
        suggestion = nearest(group, groups)
        faults.append(Fault(f"variants.{group}", _KNOWN, choices=groups, suggestion=suggestion))
    for group in METHODS:
        for level, options in variants.get(group, {}).items():
            if "name" in options:  # the level is the name
                path = f"variants.{group}.{level}.name"
                rule = f"must be omitted: the key {level} is the method's name"
                faults.append(Fault(path, rule, options["name"]))
    for dataset, options in variants.get("dataset", {}).items():
        for key, value in [*options.items()]:
            path = f"variants.dataset.{dataset}.{key}"
            if key not in VARIANT_KEYS:
                suggestion = nearest(key, VARIANT_KEYS)
                faults.append(Fault(path, _KNOWN, choices=VARIANT_KEYS, suggestion=suggestion))
                del options[key]
            elif key in GROUPS and not isinstance(value, dict):
                faults.append(Fault(path, "must be a mapping", value))
                del options[key]
    return faults


def _remove_overridden(options: dict[str, Any], overrides: Sequence[Override]) -> None:
    """Remove options of a dataset's variants that a --set of a constant overrides.

    The name of a dataset's method stays, so that its options are not applied to another method.
    """
    for group, *leaf in (split_path(override.path) for override in overrides):
        if not leaf:
            options.pop(group, None)
        elif leaf != ["name"] and isinstance(options.get(group), dict):
            options[group].pop(leaf[0], None)


def _valid_factors(space: Mapping[str, Any]) -> tuple[dict[str, Factor], list[Fault]]:
    """Return the factors that are valid by themselves, and the faults of all others."""
    factors, faults, fields = dict[str, Factor](), list[Fault](), list_trial_fields()
    for key, entry in space.items():
        path = f"space.{key}"
        if key not in fields:
            faults.append(_unknown(path, "is not an option of a trial", key, fields))
        elif key == "protocol":
            rule = "cannot be a factor: protocols have different metrics"
            faults.append(Fault(path, rule))
        elif not isinstance(entry, dict):
            faults.append(Fault(path, "must be a list of levels, or a mapping", entry))
        else:
            factor, of_factor = validate_part(Factor, entry, "space", key)
            floats = any(float in (kind, *get_args(kind)) for kind in fields[key])
            factor = _as_floats(factor) if floats else factor
            inner = () if of_factor else find_factor_faults(factor)
            of_factor += [replace(fault, path=f"{path}.{fault.path}") for fault in inner]
            if not of_factor:
                factors[key] = factor
                if isinstance(factor.step, float) and not floats:
                    of_factor = [Fault(f"{path}.step", "must be an integer", factor.step)]
            faults += of_factor
    return factors, faults


def _as_floats(factor: Factor) -> Factor:
    """Convert the integers of a factor to floats, for a key that accepts floats."""

    def typed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(typed, value))
        return float(value) if type(value) is int and abs(value) <= 2**53 else value

    names = factor.model_fields_set & {"choices", "low", "high", "step", "baseline"}
    return factor.model_copy(update={name: typed(getattr(factor, name)) for name in names})


def require_list(name: str, argument: Any, kind: Any, example: str) -> list[Any]:
    """Validate a list argument of the Python API, and return it as a list.

    Args:
        name: Name of the argument.
        argument: Its value. Any iterable is accepted, including a generator.
        kind: Type, or tuple of types, of the elements.
        example: Valid element for the message.

    Raises:
        ConfigError: The value is not an iterable of such elements, or is a single string or path.
    """
    is_single = isinstance(argument, str | Path) or not isinstance(argument, Iterable)
    values = [] if is_single else [*argument]
    if is_single or not all(isinstance(value, kind) for value in values):
        raise ConfigError([f'{name} must be a list such as ["{example}"], got {argument!r}'])
    return values


def load_plugins(plugins: Sequence[Path | str]) -> None:
    """Register the plugins of files and modules in this process, so that a YAML may name them.

    Raises:
        ConfigError: A file or module cannot be used. The message has one line for each.
    """
    lines = []
    for plugin in plugins:
        try:
            load_plugin(plugin)
        except PluginError as error:
            lines.append(f"plugins (--plugin): {printable(str(error))}")
    if lines:
        raise ConfigError(lines)


def _unknown(path: str, rule: str, key: str, keys: Iterable[str]) -> Fault:
    """Return the fault of an unknown key, with a suggestion or else all choices.

    The suggestion is a dotted name that lacked its group, or a similar key.
    """
    dotted_names = (name for name in list_trial_fields() if name.rpartition(".")[2] == key)
    suggestion = _MEANT.get(path) or next(dotted_names, nearest(key.removesuffix(".name"), keys))
    return Fault(path, rule, choices=() if suggestion else _in_short(keys), suggestion=suggestion)


def _in_short(names: Iterable[str]) -> tuple[str, ...]:
    """Return names with one entry, GROUP.*, for all options of a group."""
    return tuple(dict.fromkeys(re.sub(r"\..*", ".*", name) for name in names))


def _with_baseline(key: str, factor: Factor, trial: TrialConfig) -> Factor:
    """Set the default baseline of a factor: the constant if it is a level, else the first level.

    The default of a range without levels is the constant if it is within the range, else none.
    """
    if "baseline" in factor.model_fields_set:
        return factor
    levels, constant = factor.enumerate(), get_value(trial, key)
    first = levels[0] if levels else None
    fitting = constant if is_allowed(factor, levels, constant) else first
    return factor if fitting is None else factor.model_copy(update={"baseline": fitting})


def _shadowed(space: Mapping[str, Factor], overrides: Sequence[Override]) -> Iterator[Fault]:
    """Yield faults of overrides of constants that are factors. They would have no effect."""
    for path in (override.path for override in overrides if override.path in space):
        rule = f"is a factor, so its constant has no effect. Use space.{path}=null to "
        rule += f"remove the factor, or space.{path}.choices=[...] to change its levels"
        yield Fault(path, rule)


def _lines(faults: Iterable[Fault], overrides: Sequence[Override], label: str) -> list[str]:
    """Return faults as lines without duplicates. The source is the file or the overrides.

    Many configurations share a fault, and several methods may refuse the same value.
    """
    distinct = {}
    for fault in faults:
        detail = fault.detail if fault.got is NOTHING else ""
        distinct[fault.path, fault.rule, detail, str(fault.got)] = fault
    lines = []
    for fault in distinct.values():
        from_override = any(
            _sets(override.path.removesuffix(".name"), fault.path) for override in overrides
        )
        source = OVERRIDE if from_override else label
        advice = REMOVED.get(_make_removed_key(fault))
        lines.append(f"{source}: {advice}" if advice else fault.line(source))
    return lines


def _make_removed_key(fault: Fault) -> str:
    """Return the key that a fault would have in REMOVED: its path, with any refused value."""
    path = fault.path.removeprefix("space.")
    return path if fault.got is NOTHING else f"{path}: {fault.got}"


def _sets(override_path: str, fault_path: str) -> bool:
    """Return True if an override sets the value at a fault's path.

    An invalid level has the path of its factor. An override within the factor sets its levels,
    unless it is of `baseline` or `when`.
    """
    override, fault = (split_path(path.replace("[", ".")) for path in (override_path, fault_path))
    if fault[: len(override)] == override:
        return True
    is_within = override[: len(fault)] == fault and len(override) > len(fault)
    sets_levels = override[2:3] not in (("baseline",), ("when",))
    return fault[0] == "space" and is_within and sets_levels
