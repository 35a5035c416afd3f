"""The factors of a YAML's `space`, each on its own: what it varies, and its faults."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from harness.config.dotted import Field, dotted_fields, place, variants
from harness.config.factor import Factor, factor_faults
from harness.config.mistakes import AS_TEXT, from_pydantic, trial_faults
from harness.errors import Fault
from harness.wording import nearest
from ship.configs import FINETUNERS, GENERATORS
from ship.trial_config import TrialConfig

T = TypeVar("T")


class _Live(Mapping[str, T]):
    """A mapping made of TrialConfig, anew once a plugin has brought settings of its own."""

    def __init__(self, make: Callable[[], Mapping[str, T]]) -> None:
        self._make = make
        self._made: Mapping[str, T] = {}
        self._of: tuple[type[Any], ...] = ()

    def _now(self) -> Mapping[str, T]:
        kinds = (*GENERATORS.values(), *FINETUNERS.values())
        if kinds != self._of:
            self._made, self._of = self._make(), kinds
        return self._made

    def __getitem__(self, key: str) -> T:
        return self._now()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())


def _groups() -> dict[str, tuple[str, ...]]:
    fields = TrialConfig.model_fields.items()
    return {key: tuple(tags) for key, info in fields if (tags := variants(info))}


FIELDS: Final[Mapping[str, Field]] = _Live(lambda: dotted_fields(TrialConfig))
"""Dotted name of each setting -> who has it."""
GROUPS: Final[Mapping[str, tuple[str, ...]]] = _Live(_groups)
"""Each group of settings -> the variants that it may be one of; of one kind alone: ""."""


def parse_space(raw: Any, constants: Mapping[str, Any]) -> tuple[dict[str, Factor], list[Fault]]:
    """The factors of a YAML's `space`, without the faulty ones, and the faults of each by itself.

    Args:
        raw: what the YAML has there, of whatever type.
        constants: the YAML's trial settings, groups as mappings with a name; may be faulty.
    """
    if raw is None or raw == {}:
        return {}, [Fault("space", "must have at least one factor", choices=_in_short())]
    if not isinstance(raw, dict):
        return {}, [Fault("space", "must be a mapping of settings to factors", raw)]
    space: dict[str, Factor] = {}
    faults: list[Fault] = []
    for key, value in raw.items():
        factor, found = _parse_factor(key, value)
        if factor is not None and not found:
            group = key.partition(".")[0]
            found = _level_faults(key, factor, None if group in raw else constants.get(group))
        if factor is not None and not found:
            space[key] = factor
        faults += [_below(f"space.{key}", fault) for fault in found]
    return space, faults


def _parse_factor(key: Any, value: Any) -> tuple[Factor | None, list[Fault]]:
    """A factor and its faults, by paths below it."""
    found = [_unknown_factor(str(key))] if key not in FIELDS else []
    if key == "protocol":
        found = [Fault("", "must be a constant: protocols are measured by different metrics")]
    if not isinstance(value, dict | list):
        must = "must be a list of choices, or a mapping with choices or low and high"
        return None, [*found, Fault("", must, value)]
    try:
        factor = Factor.model_validate({"choices": value} if isinstance(value, list) else value)
    except ValidationError as error:
        return None, [*found, *from_pydantic(error, Factor)]
    factor = _typed(factor, FIELDS[key].number if key in FIELDS else None)
    return factor, found + factor_faults(factor)


def _level_faults(key: str, factor: Factor, constant: Any) -> list[Fault]:
    """Each level must be a value of the setting: one that some variant of its group takes.

    Args:
        constant: the group as the YAML has it, which may be faulty; None where the space varies it.
    """
    field = FIELDS[key]
    if factor.is_range and field.number is None:
        return [Fault("", "must list choices, as it is no number")]
    ends = {"low": factor.low, "high": factor.high}
    values = ends if factor.choices is None else indexed("choices", factor.choices)
    group, name = key.partition(".")[0], constant.get("name") if isinstance(constant, dict) else ""
    owners = [name] if name in [*field.owners] else list(field.owners)
    if name in GROUPS.get(group, ()) and name not in owners:
        keys = tuple(n for n, f in FIELDS.items() if name in f.owners and n.startswith(f"{group}."))
        must = f"must be a setting of {group} {name}, the study's constant"
        must += "" if keys else f": {name} has no settings"
        return [Fault("", must, choices=keys)]
    faults = []
    for where, value in values.items():
        found = [_value_faults(key, owner, value) for owner in owners]
        if all(found):
            faults.append(replace(found[0][0], path=where, got=value))
    if factor.step is not None and field.number == "int" and not isinstance(factor.step, int):
        faults.append(Fault("step", "must be an integer", factor.step))
    return faults


def _value_faults(key: str, owner: str, value: Any) -> list[Fault]:
    """What is wrong with a level by itself; what it needs of other settings is not looked at."""
    frame = {key.partition(".")[0]: owner} if owner else {}
    found = trial_faults(place(frame, {key: value}))
    found = [fault for fault in found if fault.path.partition("[")[0] == key]
    if isinstance(value, str | int | float | None) or any(fault.must == AS_TEXT for fault in found):
        return found
    return [Fault("", "must be a single value")]


def _typed(factor: Factor, number: str | None) -> Factor:
    """Give whole numbers the type of their field (1 -> 1.0), before levels are made of them."""

    def typed(value: Any) -> Any:
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53
        return float(value) if number == "float" and whole else value

    given = factor.model_fields_set
    update = {name: typed(getattr(factor, name)) for name in ("low", "high", "step", "baseline")}
    update = {name: value for name, value in update.items() if name in given}
    if factor.choices is not None:
        update["choices"] = tuple(typed(value) for value in factor.choices)
    return factor.model_copy(update=update)


def _below(path: str, fault: Fault) -> Fault:
    return replace(fault, path=f"{path}.{fault.path}" if fault.path else path)


def _unknown_factor(key: str) -> Fault:
    group, _, leaf = key.partition(".")
    if leaf and group in GROUPS:
        choices = tuple(name for name in FIELDS if name.startswith(f"{group}."))
        near = group if leaf == "name" else nearest(key, choices)
        return Fault("", "must be a setting of a trial", choices=choices, near=near)
    same_leaf = [name for name in FIELDS if name.rpartition(".")[2] == key]
    near = same_leaf[0] if same_leaf else nearest(key, FIELDS)
    return Fault("", "must be a setting of a trial", choices=_in_short(), near=near)


def _in_short() -> tuple[str, ...]:
    """What may be a factor, each group's settings as one entry: "shots", "generator.*"."""
    return (*(name for name in FIELDS if "." not in name), *(f"{name}.*" for name in GROUPS))


def indexed(name: str, values: tuple[Any, ...]) -> dict[str, Any]:
    """Each value by where it stands: {"name[0]": ...}."""
    return {f"{name}[{index}]": value for index, value in enumerate(values)}
