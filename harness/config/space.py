"""A study's search space: its dotted names, its assignments, and the trials that they resolve to.

An assignment is a value for each active factor: dotted name -> value.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from harness.config.factor import Factor, is_allowed, iter_assignments
from harness.config.study_config import SCHEDULERS, Log, Resources, StudyConfig
from harness.store import COMPETING, FINETUNER_ALONE
from ship.configs import FINETUNERS, GENERATORS
from ship.protocol_rules import PROTOCOLS
from ship.trial_config import SyntheticConfig, TrialConfig

if TYPE_CHECKING:
    import optuna
    from pydantic import BaseModel

    from ship.registry import Registry

METHODS: Final[Mapping[str, Registry[Any]]] = {"generator": GENERATORS, "finetuner": FINETUNERS}
"""Group of a trial's options -> methods, one of which the group's `name` selects."""
GROUPS: Final[Mapping[str, Mapping[str, type[BaseModel]]]] = {
    **METHODS,
    "synthetic": {"": SyntheticConfig},
    "scheduler": SCHEDULERS,
    "resources": {"": Resources},
    "log": {"": Log},
}
"""Group of options -> name -> config class. The name is "" if the group has no `name`."""
DEFAULTS: Final = TrialConfig()
Variants = Mapping[str, Mapping[str, Mapping[str, Any]]]


def list_trial_fields() -> dict[str, list[Any]]:
    """Return the names that a factor may have: dotted name -> types, one per method that has it.

    The factor that selects a method has the group's name: `generator`, not `generator.name`.
    Methods of loaded plugins are included.
    """
    fields: dict[str, list[Any]] = {}
    for name, info in TrialConfig.model_fields.items():
        config_classes = GROUPS.get(name, {})
        if "" not in config_classes:
            fields[name] = [info.annotation]
        for config_class in config_classes.values():
            for leaf, field in config_class.model_fields.items():
                if leaf != "name":
                    fields.setdefault(f"{name}.{leaf}", []).append(field.annotation)
    return fields


def get_value(trial: TrialConfig, key: str) -> Any:
    """Return a trial's value of a dotted name, such as "shots" or "targets[1]".

    For the group of a method, this is the method's name. Returns None if the trial lacks the name.
    """
    name, _, index = key.removesuffix("]").partition("[")
    value: Any = trial
    for part in name.split("."):
        value = getattr(value, part, None)
    return value[int(index)] if index else getattr(value, "name", value)


def set_values(
    tree: Mapping[str, Any], values: Mapping[str, Any], variants: Variants
) -> dict[str, Any]:
    """Return a copy of a trial's options with values set by their dotted names.

    A method's name (`generator: none`) replaces its whole group, unless the group has that method
    already. Groups are set before their members.

    Args:
        tree: Options of the trial, with groups as mappings.
        values: Values by dotted name.
        variants: `variants` of the study: options of methods that replace others, and of datasets.
            `values` override both.
    """
    options_tree = dict(tree)
    values = {**list_dataset_overrides(tree, values, variants), **values}
    for path, value in sorted(values.items(), key=lambda item: "." in item[0]):
        group, _, leaf = path.partition(".")
        group_options = options_tree.get(group, {})
        if leaf:
            options_tree[group] = {**group_options, leaf: value}
        elif group not in METHODS:
            options_tree[group] = value
        elif group_options.get("name") != value:
            # the validation reports a name that is not text
            options = variants.get(group, {}).get(value, {}) if isinstance(value, str) else {}
            options_tree[group] = {**options, "name": value}
    return options_tree


def list_dataset_overrides(
    tree: Mapping[str, Any], values: Mapping[str, Any], variants: Variants
) -> dict[str, Any]:
    """Return the options that `variants` sets for the dataset of an assignment, by dotted name.

    Options of a method apply only if the assignment uses that method. If an entry does not name its
    method, it is for the constant one.

    Args:
        tree: Options of the trial, with groups as mappings.
        values: Values of the assignment by dotted name.
        variants: `variants` of the study.
    """
    options: dict[str, Any] = {}
    dataset = values.get("dataset", tree.get("dataset"))
    for name, entry in variants.get("dataset", {}).get(dataset, {}).items():
        constant = tree.get(name, {}).get("name") if name in METHODS else None
        if name not in GROUPS:
            options[name] = entry
        elif entry.get("name", constant) == values.get(name, constant):
            options |= {f"{name}.{leaf}": value for leaf, value in entry.items() if leaf != "name"}
    return options


def enumerate_grid(study: StudyConfig) -> list[dict[str, Any]]:
    """Return the first `n_trials` combinations of levels. The last factor varies fastest."""
    return list(islice(iter_assignments(study.space), study.n_trials))


def list_levels(study: StudyConfig, key: str) -> tuple[Any, ...] | None:
    """Return the levels of a factor in a study. None if its values are drawn from a range."""
    factor = study.space[key]
    return None if factor.levels and study.sampler != "grid" else factor.enumerate()


def belongs(study: StudyConfig, assignment: Mapping[str, Any]) -> bool:
    """Return True if an assignment has exactly the active factors, each with a valid value."""
    on_grid = study.sampler == "grid"
    # `active` has None for a missing factor and lacks a superfluous one, so it differs for both.
    active = next(iter_assignments(study.space, lambda key, _: (assignment.get(key),)))
    return active == dict(assignment) and all(
        is_allowed(factor, factor.enumerate() if on_grid else factor.choices, active[key])
        for key, factor in study.space.items()
        if key in active
    )


def make_baseline(study: StudyConfig, levels: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return each active factor at its baseline. Ranges without a baseline are left out.

    Args:
        study: The study.
        levels: Levels of some factors, which replace their baselines. Defaults to none.
    """
    fixed_levels = levels or {}

    def get_level(key: str, factor: Factor) -> tuple[Any, ...]:
        if key in fixed_levels:
            return (fixed_levels[key],)
        return () if factor.choices is None and factor.baseline is None else (factor.baseline,)

    return next(iter_assignments(study.space, get_level))


def list_ordered_levels(factor: Factor) -> list[int | float]:
    """Return a factor's levels in ascending order: a list of numbers, or a range with a step.

    Optuna proposes such a level by its index. The sampler thereby knows which levels are neighbors,
    and treats unevenly spaced ones (1, 2, 4, 8, 16) as equally far apart.

    Returns:
        The levels. [] for any other factor, also for a list that contains booleans.
    """
    if factor.step is not None:
        return list(factor.enumerate() or ())
    choices = factor.choices or ()
    return sorted(choices) if all(type(level) in (int, float) for level in choices) else []


def make_optuna_params(study: StudyConfig, assignment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Optuna parameters from which `suggest` reproduces an assignment.

    Args:
        study: The study.
        assignment: Assignment in the study's space.
    """
    params = dict(assignment)
    for key, value in assignment.items():
        if ascending := list_ordered_levels(study.space[key]):
            # the nearest level: the value in a store may be 0.30000000000000004 instead of 0.3
            distances = [abs(level - value) for level in ascending]
            params[key] = distances.index(min(distances))
    return params


def suggest(trial: optuna.trial.BaseTrial, study: StudyConfig) -> dict[str, Any]:
    """Draw an assignment from an Optuna trial."""

    def draw_value(key: str, factor: Factor) -> tuple[Any]:
        if ascending := list_ordered_levels(factor):
            return (ascending[trial.suggest_int(key, 0, len(ascending) - 1)],)
        if factor.choices is not None:
            return (trial.suggest_categorical(key, factor.choices),)
        suggest_number: Any = trial.suggest_int if factor.whole else trial.suggest_float
        return (suggest_number(key, *factor.bounds, log=factor.log),)

    return next(iter_assignments(study.space, draw_value))


def resolve(study: StudyConfig, assignment: Mapping[str, Any]) -> TrialConfig:
    """Return the trial of an assignment: the study's constants with the assignment's values.

    If the assignment names a method (`finetuner: coop`) other than the constant one, the group has
    the options under `variants` for that method, and the method's defaults for all others.
    """
    return TrialConfig.model_validate(
        set_values(study.base.model_dump(), assignment, study.variants)
    )


def resolve_controls(study: StudyConfig) -> dict[str, TrialConfig]:
    """Return the trials of the study's controls: name -> trial. {} if it has no controls.

    A control is the study's baseline with another generator or fine-tuner. Zero-shot replaces both.
    `real_images` is left out if there are no images of new classes.

    If a control equals a configuration of the study or another control, both have the same
    configuration key. Two of the controls also run at other levels than the baseline's: see
    `make_control`.
    """
    if not study.controls:
        return {}
    from ship.datasets import has_unseen_training_images

    trial = resolve(study, make_baseline(study))
    # Zero-shot uses the same templates as the study's fine-tuner. Each target has its own.
    templates = {} if trial.targets else {"templates": trial.templates_for(trial.dataset)}
    zero_shot = {"finetuner": {"name": "zero_shot"}, **templates}
    controls = {
        "zero_shot": _replace_options(
            trial, {**COMPETING[FINETUNER_ALONE].replacements, **zero_shot}
        )
    }
    controls |= {
        name: _replace_options(trial, control.replacements) for name, control in COMPETING.items()
    }
    if PROTOCOLS[trial.protocol].has_new_classes and has_unseen_training_images(trial.dataset):
        controls["real_images"] = _replace_options(trial, {"generator": {"name": "real"}})
    return controls


def make_control(study: StudyConfig, name: str, levels: Mapping[str, Any]) -> TrialConfig:
    """Return the trial of a control at given levels of the factors that it reads.

    Args:
        study: The study.
        name: "no_synthetic" or "text_feature".
        levels: Levels of all factors that the control reads. Other factors are at their baselines.

    Raises:
        ValueError: The control cannot have these levels.
    """
    trial = resolve(study, {**make_baseline(study, levels), **levels})
    return _replace_options(trial, COMPETING[name].replacements)


def _replace_options(trial: TrialConfig, options: Mapping[str, Any]) -> TrialConfig:
    """Return a copy of a trial with some top-level options replaced."""
    return TrialConfig.model_validate({**trial.model_dump(), **options})
