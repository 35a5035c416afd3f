"""A study's search space: who has which dotted names, and the trials behind settings of them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from harness.config.factor import Factor, assignments, may_be
from harness.config.study_config import SCHEDULERS, Record, Resources, StudyConfig
from harness.store import ALONE, RIVALS
from ship.configs import FINETUNERS, GENERATORS
from ship.requirements import PROTOCOLS
from ship.trial_config import SyntheticConfig, TrialConfig

if TYPE_CHECKING:
    import optuna
    from pydantic import BaseModel

    from ship.registry import Registry

METHODS: Final[Mapping[str, Registry[Any]]] = {"generator": GENERATORS, "finetuner": FINETUNERS}
"""The groups of a trial's settings that are of one of several variants, each with a name."""
GROUPS: Final[Mapping[str, Mapping[str, type[BaseModel]]]] = {
    **METHODS,
    "synthetic": {"": SyntheticConfig},
    "scheduler": SCHEDULERS,
    "resources": {"": Resources},
    "record": {"": Record},
}
"""Each group of settings -> the variants that it may be one of; of one kind alone: ""."""
DEFAULTS: Final = TrialConfig()
Variants = Mapping[str, Mapping[str, Mapping[str, Any]]]


def trial_fields() -> dict[str, list[Any]]:
    """Every dotted name that a factor may vary -> its types, one of each variant that has it.

    A group of several variants stands for its variant's name: `generator`, not `generator.name`.
    Loaded plugins are among the variants.
    """
    found: dict[str, list[Any]] = {}
    for name, info in TrialConfig.model_fields.items():
        kinds = GROUPS.get(name, {})
        if "" not in kinds:
            found[name] = [info.annotation]
        for kind in kinds.values():
            for leaf, field in kind.model_fields.items():
                if leaf != "name":
                    found.setdefault(f"{name}.{leaf}", []).append(field.annotation)
    return found


def value_of(trial: TrialConfig, key: str) -> Any:
    """A trial's value of a dotted name ("targets[1]", too); of a group its name.

    None where there is none.
    """
    name, _, index = key.removesuffix("]").partition("[")
    value: Any = trial
    for part in name.split("."):
        value = getattr(value, part, None)
    return value[int(index)] if index else getattr(value, "name", value)


def place(tree: Mapping[str, Any], values: Mapping[str, Any], variants: Variants) -> dict[str, Any]:
    """A copy of a trial's settings, in which groups are mappings, with the values at their names.

    A name given to a group of several variants (`generator: none`) replaces the group by that
    variant, unless it is that variant already. Groups go first, their members after.

    Args:
        variants: what a study has of them: settings that such a replacement has beside its
            defaults, and those that the dataset has of its own, over which the values go.
    """
    placed = dict(tree)
    values = {**of_dataset(tree, values, variants), **values}
    for path, value in sorted(values.items(), key=lambda item: "." in item[0]):
        group, _, leaf = path.partition(".")
        inside = placed.get(group, {})
        if leaf:
            placed[group] = {**inside, leaf: value}
        elif group not in METHODS:
            placed[group] = value
        elif inside.get("name") != value:
            # a name that is no text is a fault of its own
            beside = variants.get(group, {}).get(value, {}) if isinstance(value, str) else {}
            placed[group] = {**beside, "name": value}
    return placed


def of_dataset(
    tree: Mapping[str, Any], values: Mapping[str, Any], variants: Variants
) -> dict[str, Any]:
    """What a setting's dataset has of its own, by dotted names.

    Those of a method are for the one that they name, the tree's where they name none.
    """
    found: dict[str, Any] = {}
    dataset = values.get("dataset", tree.get("dataset"))
    for name, given in variants.get("dataset", {}).get(dataset, {}).items():
        constant = tree.get(name, {}).get("name") if name in METHODS else None
        if name not in GROUPS:
            found[name] = given
        elif given.get("name", constant) == values.get(name, constant):
            found |= {f"{name}.{leaf}": value for leaf, value in given.items() if leaf != "name"}
    return found


def grid(study: StudyConfig) -> list[dict[str, Any]]:
    """Every combination of levels, the last factor running fastest; the first `trials` of them."""
    return list(islice(assignments(study.space), study.trials))


def levels(study: StudyConfig, key: str) -> tuple[Any, ...] | None:
    """The levels that a factor takes in this study; None where values are drawn from a range."""
    factor = study.space[key]
    return None if factor.levels and study.sampler != "grid" else factor.enumerate()


def belongs(study: StudyConfig, assignment: Mapping[str, Any]) -> bool:
    """Whether an assignment has the factors that are active beside each other, each at a level."""
    on_grid = study.sampler == "grid"
    # a factor that is lacking is there with None, and one too many is not: both are told apart
    active = next(assignments(study.space, lambda key, _: (assignment.get(key),)))
    return active == dict(assignment) and all(
        may_be(factor, factor.enumerate() if on_grid else factor.choices, active[key])
        for key, factor in study.space.items()
        if key in active
    )


def baseline(study: StudyConfig, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Each active factor at its baseline; a range that has none is left out.

    Args:
        study: the study.
        given: levels that factors have in place of their baselines.
    """
    given = given or {}

    def its_own(key: str, factor: Factor) -> tuple[Any, ...]:
        if key in given:
            return (given[key],)
        return () if factor.choices is None and factor.baseline is None else (factor.baseline,)

    return next(assignments(study.space, its_own))


def ordered_levels(factor: Factor) -> list[int | float]:
    """Return the ascending levels of a list of numbers or of a range with a step, else [].

    Optuna proposes such a level by its index. A sampler then knows which levels are neighbors, and
    unevenly spaced ones (1, 2, 4, 8, 16) are equally far apart. Booleans are not numbers.
    """
    if factor.step is not None:
        return list(factor.enumerate() or ())
    choices = factor.choices or ()
    return sorted(choices) if all(type(level) in (int, float) for level in choices) else []


def optuna_params(study: StudyConfig, assignment: Mapping[str, Any]) -> dict[str, Any]:
    """Return an assignment as parameters of Optuna, from which suggest() draws it again.

    Args:
        study: the study.
        assignment: values that belong to the study's space, by dotted names.
    """
    params = dict(assignment)
    for key, value in assignment.items():
        if ascending := ordered_levels(study.space[key]):
            # the nearest: a store may have 0.30000000000000004 for the level 0.3
            distances = [abs(level - value) for level in ascending]
            params[key] = distances.index(min(distances))
    return params


def suggest(trial: optuna.trial.BaseTrial, study: StudyConfig) -> dict[str, Any]:
    """Ask an Optuna trial for a setting: dotted name -> value, of the active factors."""

    def drawn(key: str, factor: Factor) -> tuple[Any]:
        if ascending := ordered_levels(factor):
            return (ascending[trial.suggest_int(key, 0, len(ascending) - 1)],)
        if factor.choices is not None:
            return (trial.suggest_categorical(key, factor.choices),)
        draw: Any = trial.suggest_int if factor.whole else trial.suggest_float
        return (draw(key, *factor.bounds, log=factor.log),)

    return next(assignments(study.space, drawn))


def resolve(study: StudyConfig, assignment: Mapping[str, Any]) -> TrialConfig:
    """The trial that a setting stands for: the study's constants with the assignment's values.

    A group's name (`finetuner: coop`) keeps the constants of that group if they are of that
    variant, else takes the study's `variants` of that name, and the defaults.
    """
    return TrialConfig.model_validate(place(study.trial.model_dump(), assignment, study.variants))


def reference_arms(study: StudyConfig) -> dict[str, TrialConfig]:
    """The arms that stand beside the study, by name; {} if the study asks for none.

    Each replaces the generator or the fine-tuner, nothing else. Where there are no new classes'
    pictures to show, real_pictures is left out.
    They have the study's constants, with each factor that is not of the replaced group at its
    baseline: a study over datasets without the constant's has its arms on the baseline dataset.
    An arm may equal a setting of the study, or another arm; its setting_key tells. Two of them run
    at other levels, too: see control_at.
    """
    if not study.reference_arms:
        return {}
    from ship.datasets import has_unseen_pictures

    trial = resolve(study, baseline(study))
    # the sentences of the study's fine-tuner, whose zero-shot it is; targets have several
    own = {} if trial.targets else {"templates": trial.templates_for(trial.dataset)}
    zero_shot = {"finetuner": {"name": "zero_shot"}, **own}
    arms = {"zero_shot": _with(trial, {**RIVALS[ALONE].replaced, **zero_shot})}
    arms |= {name: _with(trial, control.replaced) for name, control in RIVALS.items()}
    if PROTOCOLS[trial.protocol].new_classes and has_unseen_pictures(trial.dataset):
        arms["real_pictures"] = _with(trial, {"generator": {"name": "real"}})
    return arms


def control_at(study: StudyConfig, name: str, levels: Mapping[str, Any]) -> TrialConfig:
    """Return the trial of a control at levels of the factors that it reads.

    Args:
        study: The study.
        name: "no_synthetic" or "text_feature".
        levels: Levels of all factors that it reads. Other factors are at their baselines.

    Raises:
        ValueError: The control cannot have these levels.
    """
    trial = resolve(study, {**baseline(study, levels), **levels})
    return _with(trial, RIVALS[name].replaced)


def _with(trial: TrialConfig, settings: Mapping[str, Any]) -> TrialConfig:
    return TrialConfig.model_validate({**trial.model_dump(), **settings})
