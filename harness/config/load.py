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
from harness.wording import escape_controls, find_closest
from ship.plugins import PluginError, load_plugin
from ship.trial_config import TrialConfig

_UNKNOWN_KEY = "is an unknown key"
# Key in other tools -> key of a study, which is suggested.
_FOREIGN_KEYS = {
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
        label: Name of the study in messages, if `space` is a mapping.
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
    from harness.config.checks import TrialSample, find_study_faults
    from harness.config.requirements import DataRequirements

    parsed_overrides, invalid_lines = parse_overrides(overrides)
    tree, blocked_lines = apply_overrides(tree, parsed_overrides)
    tree, defaults = add_defaults(tree)
    study, faults = _build_study(tree, parsed_overrides)
    faulty_groups = {fault.path.removeprefix("space.").partition(".")[0] for fault in faults}
    trials = TrialSample(study, faulty_groups)
    faults += trials.faults
    if invalid_lines or blocked_lines or faults:
        fault_lines = _format_faults(faults, parsed_overrides, label)
        raise ConfigError([*invalid_lines, *blocked_lines, *fault_lines])
    faults = [
        *_find_shadowed_overrides(study.space, parsed_overrides),
        *find_study_faults(study, trials),
    ]
    if "dataset" not in study.space:  # options of the only dataset become constants
        other_variants = {key: levels for key, levels in study.variants.items() if key != "dataset"}
        study = study.model_copy(update={"base": resolve(study, {}), "variants": other_variants})
    factors = {key: _add_baseline(key, factor, study.base) for key, factor in study.space.items()}
    update = {"space": factors, "source": source, "backbone_defaults": defaults}
    study = study.model_copy(update=update)
    if check_existence:
        faults += trials.find_faults(DataRequirements(study, data_root).find_faults)
    if faults:
        raise ConfigError(_format_faults(faults, parsed_overrides, label))
    return study


def _build_study(
    tree: dict[str, Any], overrides: Sequence[Override]
) -> tuple[StudyConfig, list[Fault]]:
    """Build a study from the valid values of a YAML; return it and the faults of the others.

    Args:
        tree: Mapping of the YAML in long form, with all overrides and defaults.
        overrides: The overrides.
    """
    keys = (*STUDY_KEYS, *TRIAL_KEYS)
    faults = [_make_unknown_fault(key, _UNKNOWN_KEY, key, keys) for key in tree if key not in keys]
    if tree["space"] == {}:
        choices = _shorten_names(list_trial_fields())
        faults.append(Fault("space", "must have at least one factor", choices=choices))
    constants = {key: tree[key] for key in TRIAL_KEYS if key in tree}
    trial, trial_faults = validate_part(TrialConfig, constants)
    options: dict[str, Any] = {key: tree[key] for key in STUDY_KEYS if key in tree}
    factors, space_faults = dict[str, Factor](), list[Fault]()
    if isinstance(tree["space"], dict):
        factors, space_faults = _build_factors(tree["space"])
        options["space"] = factors
    if trial.protocol == "few_shot" and "selection" not in {*tree, *factors}:
        trial = trial.model_copy(update={"selection": "base_val"})  # few_shot has no new classes
    if any(factor.enumerate() is None for factor in factors.values()):
        options.setdefault("sampler", "tpe")
    study, study_faults = validate_part(StudyConfig, {**options, "base": trial})
    faults += [*trial_faults, *study_faults, *_prune_variants(study.variants), *space_faults]
    if "dataset" not in factors:
        dataset_options = study.variants.get("dataset", {}).get(trial.dataset, {})
        _remove_overridden(dataset_options, overrides)
    return study, faults


def _prune_variants(variants: Mapping[str, Mapping[str, dict[str, Any]]]) -> list[Fault]:
    """Remove invalid keys from `variants.dataset`, and return the faults of all variants.

    The options under `variants` for a method are checked later, by TrialSample.
    """
    faults, groups = list[Fault](), (*METHODS, "dataset")
    for group in (group for group in variants if group not in groups):
        suggestion = find_closest(group, groups)
        faults.append(
            Fault(f"variants.{group}", _UNKNOWN_KEY, choices=groups, suggestion=suggestion)
        )
    for group in METHODS:
        for level, options in variants.get(group, {}).items():
            if "name" in options:  # the level is the name
                path = f"variants.{group}.{level}.name"
                reason = f"the key {level} is the method's name"
                faults.append(Fault(path, "must be omitted", options["name"], reason=reason))
    for dataset, options in variants.get("dataset", {}).items():
        for key, value in [*options.items()]:
            path = f"variants.dataset.{dataset}.{key}"
            if key not in VARIANT_KEYS:
                suggestion = find_closest(key, VARIANT_KEYS)
                faults.append(
                    Fault(path, _UNKNOWN_KEY, choices=VARIANT_KEYS, suggestion=suggestion)
                )
                del options[key]
            elif key in GROUPS and not isinstance(value, dict):
                faults.append(Fault(path, "must be a mapping", value))
                del options[key]
    return faults


def _remove_overridden(options: dict[str, Any], overrides: Sequence[Override]) -> None:
    """Remove the options that `variants` sets for a dataset and a --set of a constant overrides.

    `finetuner=coop` removes the whole group `finetuner`, but `finetuner.name=coop` removes nothing.
    The group's `name` stays, because its other options are for that method only.

    Args:
        options: Options that `variants` sets for the dataset, which are changed in place.
        overrides: The overrides.
    """
    for group, *leaf in (split_path(override.path) for override in overrides):
        if not leaf:
            options.pop(group, None)
        elif leaf != ["name"] and isinstance(options.get(group), dict):
            options[group].pop(leaf[0], None)


def _build_factors(space: Mapping[str, Any]) -> tuple[dict[str, Factor], list[Fault]]:
    """Build the factors of `space` from a YAML's mapping; return the valid ones and the faults."""
    factors, faults, fields = dict[str, Factor](), list[Fault](), list_trial_fields()
    for key, entry in space.items():
        path = f"space.{key}"
        if key not in fields:
            faults.append(_make_unknown_fault(path, "is not an option of a trial", key, fields))
        elif key == "protocol":
            rule = "cannot be a factor: protocols have different metrics"
            faults.append(Fault(path, rule))
        elif not isinstance(entry, dict):
            faults.append(Fault(path, "must be a list of levels, or a mapping", entry))
        else:
            factor, factor_faults = validate_part(Factor, entry, "space", key)
            accepts_floats = any(float in (type_, *get_args(type_)) for type_ in fields[key])
            if accepts_floats:
                factor = _convert_to_floats(factor)
            if not factor_faults:
                factor_faults = [
                    replace(fault, path=f"{path}.{fault.path}")
                    for fault in find_factor_faults(factor)
                ]
            if not factor_faults:
                factors[key] = factor
                if isinstance(factor.step, float) and not accepts_floats:
                    factor_faults = [Fault(f"{path}.step", "must be an integer", factor.step)]
            faults += factor_faults
    return factors, faults


def _convert_to_floats(factor: Factor) -> Factor:
    """Return a copy of a factor with floats in place of integers that a float can represent."""

    def convert(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(convert, value))
        return float(value) if type(value) is int and abs(value) <= 2**53 else value

    names = factor.model_fields_set & {"choices", "low", "high", "step", "baseline"}
    return factor.model_copy(update={name: convert(getattr(factor, name)) for name in names})


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
    """Load plugins in this process, so that a YAML may name them.

    Args:
        plugins: Files and names of modules that define plugins.

    Raises:
        ConfigError: A file or module cannot be loaded. The message has one line for each of these.
    """
    lines = []
    for plugin in plugins:
        try:
            load_plugin(plugin)
        except PluginError as error:
            lines.append(f"plugins (--plugin): {escape_controls(str(error))}")
    if lines:
        raise ConfigError(lines)


def _make_unknown_fault(path: str, problem: str, key: str, keys: Iterable[str]) -> Fault:
    """Return the fault of an unknown key, with a suggestion or else all choices.

    Suggests the key for a name in another tool, a dotted name if only its group is missing (for
    lr: finetuner.lr), or a similar key.

    Args:
        path: Path of the fault.
        problem: Problem of the fault.
        key: The unknown key.
        keys: The choices.
    """
    dotted_names = (name for name in list_trial_fields() if name.rpartition(".")[2] == key)
    suggestion = _FOREIGN_KEYS.get(path) or next(
        dotted_names, find_closest(key.removesuffix(".name"), keys)
    )
    return Fault(
        path, problem, choices=() if suggestion else _shorten_names(keys), suggestion=suggestion
    )


def _shorten_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return dotted names with GROUP.* in place of all options of a group."""
    return tuple(dict.fromkeys(re.sub(r"\..*", ".*", name) for name in names))


def _add_baseline(key: str, factor: Factor, trial: TrialConfig) -> Factor:
    """Return a copy of a factor with the default baseline if the YAML sets none.

    The default is the constant if the factor allows it, else the first level. A range without
    levels that does not contain the constant has no baseline.
    """
    if "baseline" in factor.model_fields_set:
        return factor
    levels, constant = factor.enumerate(), get_value(trial, key)
    first = levels[0] if levels else None
    baseline = constant if is_allowed(factor, levels, constant) else first
    return factor if baseline is None else factor.model_copy(update={"baseline": baseline})


def _find_shadowed_overrides(
    space: Mapping[str, Factor], overrides: Sequence[Override]
) -> Iterator[Fault]:
    """Yield a fault for each `--set KEY=...` where KEY is a factor, since it has no effect."""
    for path in (override.path for override in overrides if override.path in space):
        rule = f"is a factor, so its constant has no effect. Use space.{path}=null to "
        rule += f"remove the factor, or space.{path}.choices=[...] to change its levels"
        yield Fault(path, rule)


def _format_faults(faults: Iterable[Fault], overrides: Sequence[Override], label: str) -> list[str]:
    """Return the distinct faults as lines. Many trials may share a fault.

    Args:
        faults: The faults.
        overrides: The overrides. The lines of faults that they cause begin with OVERRIDE.
        label: Start of all other lines.
    """
    distinct = {}  # if several methods refuse the same value, only the last fault is kept
    for fault in faults:
        detail = fault.detail if fault.got is NOTHING else ""
        distinct[fault.path, fault.problem, detail, str(fault.got)] = fault
    lines = []
    for fault in distinct.values():
        from_override = any(
            _sets_value(override.path.removesuffix(".name"), fault.path) for override in overrides
        )
        source = OVERRIDE if from_override else label
        advice = REMOVED.get(_make_removed_key(fault))
        lines.append(f"{source}: {advice}" if advice else fault.format_line(source))
    return lines


def _make_removed_key(fault: Fault) -> str:
    """Return the key that the fault would have in REMOVED: its path, and its value if any."""
    path = fault.path.removeprefix("space.")
    return path if fault.got is NOTHING else f"{path}: {fault.got}"


def _sets_value(override_path: str, fault_path: str) -> bool:
    """Return True if an override sets the value at a fault's path, or a part of it.

    The path of an invalid level is that of its factor, e.g. space.shots. An override of one of the
    factor's own keys (space.shots.low) may have set the level, except `baseline` and `when`.
    """
    override, fault = (split_path(path.replace("[", ".")) for path in (override_path, fault_path))
    if fault[: len(override)] == override:
        return True
    is_within = override[: len(fault)] == fault and len(override) > len(fault)
    sets_levels = override[2:3] not in (("baseline",), ("when",))
    return fault[0] == "space" and is_within and sets_levels
