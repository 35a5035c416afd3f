"""What a YAML holds as mappings: with each --set put in, and what pydantic finds wrong with it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.config.factor import Factor
from harness.config.space import DEFAULTS, GROUPS, METHODS, value_of
from harness.config.study_config import TRIAL_KEYS, StudyConfig
from harness.errors import ConfigError, Fault
from harness.study_files import parse_value
from harness.wording import nearest, show

Model = TypeVar("Model", bound=BaseModel)

# pydantic's error type -> what the value must be; braces are filled from the error's context.
_MUST = {
    "missing": "must be given",
    "extra_forbidden": "is an unknown key",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "too_short": "must have at least one level",
    "too_long": "must have at most {max_length} levels",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a name or a mapping",
    "literal_error": "must be one of the choices",
    "union_tag_invalid": "must be one of the choices",
    "union_tag_not_found": "must have a name",
    "greater_than": "must be > {gt:.16g}",
    "greater_than_equal": "must be >= {ge:.16g}",
    "less_than": "must be < {lt:.16g}",
    "less_than_equal": "must be <= {le:.16g}",
}
OVERRIDE = "overrides (--set)"  # the source of a fault, in place of a file's name
FOR_PLUGINS = "If a plugin defines it, name its file or module in plugins (--plugin)"
_OF_ONE_VALUE = ("int_type", "float_type", "string_type", "bool_type", "literal_error")
# space, a factor's key, one of the factor's own keys, and what stands below that
_IN_SPACE = re.compile(rf"(space)\.(.+?)(?:\.({'|'.join(Factor.model_fields)})(?:\.(.+))?)?")
_DROPPED = {"space": 1, "variants": 2}  # how deep below these keys null removes what is there


class Override(NamedTuple):
    """One --set: a value, and the dotted path that it is put at, over the file's."""

    path: str
    value: Any


def steps(path: str) -> tuple[str, ...]:
    """Where a path leads: a factor's key is itself dotted, and is one step below space."""
    found = _IN_SPACE.fullmatch(path)
    return tuple(filter(None, found.groups())) if found else tuple(path.split("."))


def parse_overrides(
    texts: Sequence[str], source: str = OVERRIDE
) -> tuple[list[Override], list[str]]:
    """The overrides that can be read (values are YAML), and a line for each that cannot.

    Args:
        texts: KEY=VALUE each.
        source: What a line begins with.
    """
    given: list[Override] = []
    lines: list[str] = []
    for text in texts:
        path, equals, value = text.partition("=")
        path = path.strip()
        if not equals or not all(path.split(".")):
            lines.append(f"{source}: {text!r} must be key=value, e.g. shots=4")
            continue
        try:
            given.append(Override(path, parse_value(value, f"{source}: {path}")))
        except ConfigError as error:
            lines += error.faults
    return given, lines


def apply_overrides(
    mapping: Mapping[str, Any], given: Sequence[Override]
) -> tuple[dict[str, Any], list[str]]:
    """A YAML's mapping, spelled out, with the overrides put in, in their order.

    `space.KEY=null` drops a factor, `variants.GROUP=null` and `variants.GROUP.LEVEL=null` what
    stands there; below these null is a value. What stands in an override's way without being a
    mapping (`resources: 3` before `resources.cpus=2`) is left.

    Returns:
        The mapping; and a line for each override that found no mapping on its way.
    """
    tree, blocked = spelled_out(mapping), []
    for item in given:
        *way, last = steps(item.path)
        inside: Any = tree
        for place, step in enumerate(way, start=1):
            if inside.get(step) is None:
                inside[step] = {}
            inside = inside[step]
            if not isinstance(inside, dict):
                lead = ".".join(way[:place])
                must = f"must lead into mappings, {lead} is {show(inside)}"
                blocked.append(Fault(item.path, must).line(OVERRIDE))
                break
        else:
            if item.value is None and 1 <= len(way) <= _DROPPED.get(way[0], 0):
                inside.pop(last, None)
            else:
                inside[last] = item.value
        tree = spelled_out(tree)
    return tree, blocked


def spelled_out(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """A YAML's mapping with what its short forms stand for, such as `finetuner: coop`."""
    tree = dict(mapping)
    tree |= {key: {} for key in ("space", "variants") if tree.get(key) is None}
    for key in (*METHODS, "scheduler"):
        if isinstance(tree.get(key), str):
            tree[key] = {"name": tree[key]}
        if key in METHODS and isinstance(inside := tree.get(key, {}), dict):
            tree[key] = {"name": value_of(DEFAULTS, key), **inside}
    if isinstance(space := tree["space"], dict):
        levels = {key: {"choices": one} for key, one in space.items() if isinstance(one, list)}
        tree["space"] = {**space, **levels}
    return tree


def sound_part(model: type[Model], tree: dict[str, Any], *at: str) -> tuple[Model, list[Fault]]:
    """The settings of what is sound of a YAML's mapping, and every fault of it, one for each path.

    A fault takes its whole field out of the mapping; of the variants, it takes one entry.

    Args:
        model: what the mapping is to be. A study has a name and a space then, sound or not.
        tree: the mapping; it loses what is at fault.
        at: where it stands in the YAML.
    """
    try:
        return model.model_validate(tree), []
    except ValidationError as error:
        for one in error.errors():
            *way, last = one["loc"][: 3 if one["loc"][0] == "variants" else 1]
            inside = tree
            for step in way:
                inside = inside[str(step)]
            inside.pop(str(last), None)
        spare = {"name": "none", "space": {}} if model is StudyConfig else {}
        return model.model_validate({**spare, **tree}), _faults(error, at)


def _faults(error: ValidationError, at: Sequence[str]) -> list[Fault]:
    """What pydantic tells, once for each path."""
    told = error.errors(include_url=False)
    # a list is too short for pydantic, too, where none of its levels is sound
    found = [_fault(one, at) for one in told if one["type"] != "too_short" or not one["input"]]
    return list({fault.path: fault for fault in found}.values())


def _fault(details: ErrorDetails, at: Sequence[str]) -> Fault:
    """A mistake that pydantic tells, by where it stands in a YAML."""
    kind, got, context = details["type"], details["input"], details.get("ctx", {})
    place = [*at, *details["loc"]]
    kinds, variant = GROUPS.get(str(place[0]), {}), ""
    if len(place) > 1 and "" not in kinds and kinds:  # the name of a variant is no key of the YAML
        variant = str(place.pop(1))
    path = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in place)[1:]
    reason = details["msg"].removeprefix("Value error, ")
    reason = reason if reason.startswith("must") else f"must be valid: {reason}"
    must = _MUST[kind].format(**context) if kind in _MUST else reason
    detail = f" for {place[0]} {variant}" if variant else ""
    if kind == "missing":
        return Fault(path, must, detail=detail)
    if kind == "extra_forbidden":
        keys = tuple(kinds.get(variant, Factor).model_fields)
        near = nearest(str(place[-1]), keys)
        return Fault(path, must, choices=keys, near=near, detail=detail)
    if isinstance(got, list) and kind in _OF_ONE_VALUE and place[0] in TRIAL_KEYS:
        detail += " (levels stand under space)"
    listed = str(context.get("expected", context.get("expected_tags", "")))
    choices = tuple(re.findall(r"'([^']*)'", listed))
    named = kind == "union_tag_invalid" and place[0] in METHODS
    advice = FOR_PLUGINS if named else ""
    return Fault(path, must, context.get("tag", got), choices, detail=detail, advice=advice)
