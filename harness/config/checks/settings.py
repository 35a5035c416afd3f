"""The settings that a study spans, each as its trial, and where in the YAML their values stand."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, combinations, islice
from typing import Any

from pydantic import ValidationError

from harness.config.dotted import brought_along, place
from harness.config.factor import Factor, assignments, same
from harness.config.factors import FIELDS
from harness.config.mistakes import trial_faults
from harness.config.study_config import StudyConfig
from harness.errors import Fault
from harness.wording import show
from ship.trial_config import TrialConfig

MAX_GRID = 10_000


@dataclass(frozen=True)
class Setting:
    """One value of each factor that is there, by dotted names, and the trial with these values."""

    assignment: Mapping[str, Any]
    trial: TrialConfig


def settings_of(study: StudyConfig) -> tuple[list[Setting], list[Fault]]:
    """The settings that checks look at, and faults of those that are no trial.

    A factor must be a setting of each variant that it is there beside, and values that are sound
    apart must be so together.
    """
    settings: list[Setting] = []
    lacking: dict[str, dict[str, None]] = {}
    apart: list[tuple[dict[str, Any], Fault]] = []
    constants = study.trial.model_dump()
    owners = {key: FIELDS[key].owners for key in study.space}
    for assignment in _samples(study.space):
        fitting = dict(assignment)
        for key in assignment:
            group = key.partition(".")[0]
            name = "" if "" in owners[key] else assignment.get(group, value_of(study.trial, group))
            if name not in owners[key]:
                lacking.setdefault(key, {})[name] = None
                del fitting[key]
        if any(found.items() <= fitting.items() for found, _ in apart):
            continue
        try:
            trial = TrialConfig.model_validate(place(constants, fitting, study.variants))
        except ValidationError:
            apart.append(_torn(study, fitting))
        else:
            settings.append(Setting(fitting, trial))
    faults = [_unowned(key, names, owners[key]) for key, names in lacking.items()]
    return settings, faults + [fault for _, fault in apart]


def _samples(space: Mapping[str, Factor]) -> Iterator[dict[str, Any]]:
    """Every setting of a space, with a range by its ends, if there are not too many.

    Else those that differ in what is no number, on which effects depend, and those that differ
    from the baseline in two factors.
    """
    deciding = {name for factor in space.values() for name in factor.when}
    whole = {
        key: _of_choices(factor, factor.enumerate() if key in deciding else None)
        for key, factor in space.items()
    }
    if sum(1 for _ in islice(assignments(whole), MAX_GRID + 1)) <= MAX_GRID:
        return assignments(whole)
    names = [key for key in whole if FIELDS[key].number is None]
    frames = (_around(whole, {*keys, *deciding}) for keys in (names, *combinations(whole, 2)))
    return islice(chain.from_iterable(map(assignments, frames)), 2 * MAX_GRID)


def _of_choices(factor: Factor, levels: tuple[Any, ...] | None) -> Factor:
    """A range as the choice of levels, or of its ends."""
    if factor.choices is not None:
        return factor
    return factor.model_copy(update={"choices": levels or factor.bounds})


def _around(space: Mapping[str, Factor], kept: Collection[str]) -> dict[str, Factor]:
    """A space in which the other factors stay at their baselines; a range without one: at low."""
    return {
        key: factor
        if key in kept
        else factor.model_copy(
            update={"choices": (factor.low if factor.baseline is None else factor.baseline,)}
        )
        for key, factor in space.items()
    }


def _torn(study: StudyConfig, assignment: Mapping[str, Any]) -> tuple[dict[str, Any], Fault]:
    """The fewest values of a setting that are no trial together, and a line about them."""

    def faults(values: Mapping[str, Any]) -> list[tuple[str, str]]:
        tree = place(study.trial.model_dump(), values, study.variants)
        return [(fault.path, fault.must) for fault in trial_faults(tree)]

    found, least = faults(assignment), dict(assignment)
    for key in assignment:
        without = {name: value for name, value in least.items() if name != key}
        if faults(without) == found:
            least = without
    (one, value), *others = sorted(least.items(), key=lambda item: "." not in item[0])
    (_, must), *_ = found
    if not others:
        return least, Fault(_place_of(study.space[one], one, value), must, value)
    beside = " and ".join(f"{key} is {show(level)}" for key, level in others)
    return least, Fault(f"space.{one}", f"must not be {show(value)} where {beside}: {must}")


def _unowned(key: str, lacking: Collection[str], owners: Collection[str]) -> Fault:
    group, _, leaf = key.partition(".")
    when = f'"when: {{{group}: [{", ".join(owners)}]}}"'
    return Fault(f"space.{key}", f"must have {when}: {', '.join(lacking)} has no {leaf}")


def located(study: StudyConfig, found: Iterable[tuple[Setting, Fault]]) -> list[Fault]:
    """Faults of values of settings by where these stand in the YAML, each once.

    A fault that every level of a factor has is one of the factor.

    Args:
        found: faults with the dotted name of a trial's setting for their path.
    """
    faults: dict[tuple[str, str], Fault] = {}
    for setting, fault in found:
        path = place_of(study, setting, fault.path)
        faults.setdefault((path, fault.must), replace(fault, path=path))
    for (path, must), fault in list(faults.items()):
        key = path.removeprefix("space.").removesuffix(".choices[0]")
        n_levels = len(study.space[key].choices or ()) if key in study.space else 0
        levels = [(f"space.{key}.choices[{i}]", must) for i in range(n_levels)]
        if len(levels) > 1 and all(level in faults for level in levels):
            for level in levels:
                del faults[level]
            whole = f"space.{key}"
            faults[whole, must] = Fault(whole, must, choices=fault.choices, near=fault.near)
    return list(faults.values())


def place_of(study: StudyConfig, setting: Setting, key: str) -> str:
    """Where in the YAML a setting has its value of a dotted name from ("targets[1]", too)."""
    name = key.partition("[")[0]
    group, _, leaf = name.partition(".")
    if name in setting.assignment:
        return _place_of(study.space[name], name, setting.assignment[name])
    own = {name: levels for name, levels in study.variants.items() if name == "dataset"}
    if own and name in brought_along(study.trial.model_dump(), setting.assignment, own):
        return f"variants.dataset.{setting.trial.dataset}.{key}"
    if leaf and setting.assignment.get(group, constant := value_of(study.trial, group)) != constant:
        return f"variants.{group}.{setting.assignment[group]}.{leaf}"
    return key


def value_of(trial: TrialConfig, key: str) -> Any:
    """A trial's value of a dotted name ("targets[1]", too); of a group its name.

    None where there is none.
    """
    name, _, index = key.removesuffix("]").partition("[")
    value: Any = trial
    for part in name.split("."):
        value = getattr(value, part, None)
    return value[int(index)] if index else getattr(value, "name", value)


def _place_of(factor: Factor, key: str, value: Any) -> str:
    """Where in a factor one of its levels stands."""
    for index, level in enumerate(factor.choices or ()):
        if same(level, value):
            return f"space.{key}.choices[{index}]"
    ends = {"low": factor.low, "high": factor.high}
    end = next((f".{name}" for name, level in ends.items() if level == value), "")
    return f"space.{key}{end}"
