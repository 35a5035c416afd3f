"""A study's search space: its dotted names, and the trials that assignments resolve to."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from harness.config.factor import Factor, is_allowed, iter_assignments
from harness.config.study_config import SCHEDULERS, Log, Resources, StudyConfig
from harness.store import COMPETING, FINETUNER_ALONE
from ship.configs import FINETUNERS, GENERATORS
from ship.requirements import PROTOCOLS
from ship.trial_config import SyntheticConfig, TrialConfig

if TYPE_CHECKING:
    import optuna
    from pydantic import BaseModel

    from ship.registry import Registry

METHODS: Final[Mapping[str, Registry[Any]]] = {"generator": GENERATORS, "finetuner": FINETUNERS}
"""Groups of a trial's options that select one of several methods by name."""
GROUPS: Final[Mapping[str, Mapping[str, type[BaseModel]]]] = {
    **METHODS,
    "synthetic": {"": SyntheticConfig},
    "scheduler": SCHEDULERS,
    "resources": {"": Resources},
    "log": {"": Log},
}
"""Group of options -> class of each variant by name. "" if the group has no variants."""
DEFAULTS: Final = TrialConfig()
Variants = Mapping[str, Mapping[str, Mapping[str, Any]]]


def list_trial_fields() -> dict[str, list[Any]]:
    """Return every dotted name that a factor may vary -> its types, one per variant that has it.

    The name of a method is the group itself: `generator`, not `generator.name`. Methods of loaded
    plugins are included.
    """
    fields: dict[str, list[Any]] = {}
    for name, info in TrialConfig.model_fields.items():
        kinds = GROUPS.get(name, {})
        if "" not in kinds:
            fields[name] = [info.annotation]
        for kind in kinds.values():
            for leaf, field in kind.model_fields.items():
                if leaf != "name":
                    fields.setdefault(f"{name}.{leaf}", []).append(field.annotation)
    return fields


def get_value(trial: TrialConfig, key: str) -> Any:
    """Return a trial's value of a dotted name, such as "shots" or "targets[1]".

    The value of a method's group is the method's name. None if the trial lacks the name.
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
        variants: Variants of the study. They provide the options of a method that replaces
            another, and options of single datasets, which `values` override.
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
            # a name that is not text is a separate fault
            options = variants.get(group, {}).get(value, {}) if isinstance(value, str) else {}
            options_tree[group] = {**options, "name": value}
    return options_tree


def list_dataset_overrides(
    tree: Mapping[str, Any], values: Mapping[str, Any], variants: Variants
) -> dict[str, Any]:
    """Return the options that `variants` sets for the dataset of an assignment, by dotted name.

    Options of a method apply only if the assignment uses that method. If they do not name a method,
    they are for the constant one.

    Args:
        tree: Options of the trial, with groups as mappings.
        values: Values of the assignment by dotted name.
        variants: Variants of the study.
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
    """Return the levels of a factor in a study. None if values are drawn from a range."""
    factor = study.space[key]
    return None if factor.levels and study.sampler != "grid" else factor.enumerate()


def belongs(study: StudyConfig, assignment: Mapping[str, Any]) -> bool:
    """Return True if an assignment has exactly the active factors, each with a valid value."""
    on_grid = study.sampler == "grid"
    # A missing factor becomes None and a superfluous one is dropped, so both make a difference.
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
        levels: Levels of factors in place of their baselines.
    """
    fixed = levels or {}

    def baseline_level(key: str, factor: Factor) -> tuple[Any, ...]:
        if key in fixed:
            return (fixed[key],)
        return () if factor.choices is None and factor.baseline is None else (factor.baseline,)

    return next(iter_assignments(study.space, baseline_level))


def list_ordered_levels(factor: Factor) -> list[int | float]:
    """Return the ascending levels of a list of numbers or of a range with a step, else [].

    Optuna proposes such a level by its index. A sampler then knows which levels are neighbors, and
    unevenly spaced ones (1, 2, 4, 8, 16) are equally far apart. Booleans are not numbers.
    """
    if factor.step is not None:
        return list(factor.enumerate() or ())
    choices = factor.choices or ()
    return sorted(choices) if all(type(level) in (int, float) for level in choices) else []


def make_optuna_params(study: StudyConfig, assignment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Optuna parameters from which `suggest` draws an assignment again.

    Args:
        study: The study.
        assignment: Values in the study's space, by dotted name.
    """
    params = dict(assignment)
    for key, value in assignment.items():
        if ascending := list_ordered_levels(study.space[key]):
            # the nearest level, because a store may have 0.30000000000000004 for 0.3
            distances = [abs(level - value) for level in ascending]
            params[key] = distances.index(min(distances))
    return params


def suggest(trial: optuna.trial.BaseTrial, study: StudyConfig) -> dict[str, Any]:
    """Draw an assignment of the active factors from an Optuna trial: dotted name -> value."""

    def drawn(key: str, factor: Factor) -> tuple[Any]:
        if ascending := list_ordered_levels(factor):
            return (ascending[trial.suggest_int(key, 0, len(ascending) - 1)],)
        if factor.choices is not None:
            return (trial.suggest_categorical(key, factor.choices),)
        draw: Any = trial.suggest_int if factor.whole else trial.suggest_float
        return (draw(key, *factor.bounds, log=factor.log),)

    return next(iter_assignments(study.space, drawn))


def resolve(study: StudyConfig, assignment: Mapping[str, Any]) -> TrialConfig:
    """Return the trial of an assignment: the study's constants with the assignment's values.

    A method's name (`finetuner: coop`) keeps the constants of its group if they are for that
    method. Otherwise the group has the study's `variants` of that method, and its defaults.
    """
    return TrialConfig.model_validate(
        set_values(study.base.model_dump(), assignment, study.variants)
    )


def resolve_controls(study: StudyConfig) -> dict[str, TrialConfig]:
    """Return the trials of the controls at the baseline, by name. {} if the study has none.

    A control replaces only the generator or the fine-tuner. It has the study's constants, and
    factors outside the replaced group are at their baselines, including the dataset.
    `real_images` is left out if there are no images of new classes.

    A control may equal a configuration of the study or another control; their keys are equal then.
    Two of the controls run at other levels, too: see `make_control`.
    """
    if not study.controls:
        return {}
    from ship.datasets import has_unseen_images

    trial = resolve(study, make_baseline(study))
    # Zero-shot uses the templates of the study's fine-tuner. Targets each have their own.
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
    if PROTOCOLS[trial.protocol].new_classes and has_unseen_images(trial.dataset):
        controls["real_images"] = _replace_options(trial, {"generator": {"name": "real"}})
    return controls


def make_control(study: StudyConfig, name: str, levels: Mapping[str, Any]) -> TrialConfig:
    """Return the trial of a control at levels of the factors that it reads.

    Args:
        study: The study.
        name: "no_synthetic" or "text_feature".
        levels: Levels of all factors that the control reads. Other factors are at their baselines.

    Raises:
        ValueError: The control cannot have these levels.
    """
    trial = resolve(study, {**make_baseline(study, levels), **levels})
    return _replace_options(trial, COMPETING[name].replacements)


def _replace_options(trial: TrialConfig, settings: Mapping[str, Any]) -> TrialConfig:
    return TrialConfig.model_validate({**trial.model_dump(), **settings})
