"""Apply overrides to the mapping of a YAML, validate it, and convert pydantic's errors."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.config.factor import Factor
from harness.config.space import DEFAULTS, GROUPS, METHODS, get_value
from harness.config.study_config import TRIAL_KEYS, StudyConfig
from harness.errors import ConfigError, Fault
from harness.study_files import parse_value
from harness.wording import nearest

Model = TypeVar("Model", bound=BaseModel)

# pydantic's error type -> rule of the message; braces are filled from the error's context.
_RULES = {
    "missing": "is required",
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
_SCALAR_ERRORS = ("int_type", "float_type", "string_type", "bool_type", "literal_error")
# space, a factor's key, a key within the factor, and the rest of the path
_IN_SPACE = re.compile(rf"(space)\.(.+?)(?:\.({'|'.join(Factor.model_fields)})(?:\.(.+))?)?")
# Number of levels below these keys at which null removes an entry; deeper down it is a value.
_REMOVAL_DEPTH = {"space": 1, "variants": 2}


class Override(NamedTuple):
    """One --set: a dotted path and the value that replaces the file's value there.

    Attributes:
        path: Dotted path of the key.
        value: Value of the key.
    """

    path: str
    value: Any


def split_path(path: str) -> tuple[str, ...]:
    """Split a dotted path into keys. A factor's dotted key below `space` is not split."""
    match = _IN_SPACE.fullmatch(path)
    return tuple(filter(None, match.groups())) if match else tuple(path.split("."))


def parse_overrides(
    texts: Sequence[str], source: str = OVERRIDE
) -> tuple[list[Override], list[str]]:
    """Parse overrides, whose values are YAML.

    Args:
        texts: Overrides of the form KEY=VALUE.
        source: Prefix of the error lines.

    Returns:
        The valid overrides, and an error line for each invalid one.
    """
    overrides: list[Override] = []
    lines: list[str] = []
    for text in texts:
        path, equals, value = text.partition("=")
        path = path.strip()
        if not equals or not all(path.split(".")):
            lines.append(f"{source}: must be KEY=VALUE such as shots=4, got {text!r}")
            continue
        try:
            overrides.append(Override(path, parse_value(value, f"{source}: {path}")))
        except ConfigError as error:
            lines += error.faults
    return overrides, lines


def apply_overrides(
    mapping: Mapping[str, Any], overrides: Sequence[Override]
) -> tuple[dict[str, Any], list[str]]:
    """Return a YAML's mapping in long form, with overrides applied in their order.

    `space.KEY=null` removes a factor. `variants.GROUP=null` and `variants.GROUP.LEVEL=null` remove
    these variants. At a deeper level null is a value. An override is not applied if a parent of its
    key is not a mapping, such as `resources: 3` for `resources.cpus=2`.

    Args:
        mapping: Mapping of the YAML.
        overrides: Overrides to apply.

    Returns:
        The new mapping, and an error line for each override that was not applied.
    """
    tree, faults = expand_short_forms(mapping), []
    for item in overrides:
        *parents, last = split_path(item.path)
        node: Any = tree
        for depth, step in enumerate(parents, start=1):
            if node.get(step) is None:
                node[step] = {}
            node = node[step]
            if not isinstance(node, dict):
                lead = ".".join(parents[:depth])
                rule = f"cannot be set: {lead} must be a mapping"
                faults.append(Fault(item.path, rule, node).line(OVERRIDE))
                break
        else:
            if item.value is None and 1 <= len(parents) <= _REMOVAL_DEPTH.get(parents[0], 0):
                node.pop(last, None)
            else:
                node[last] = item.value
        tree = expand_short_forms(tree)
    return tree, faults


def expand_short_forms(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a YAML's mapping in long form: short forms such as `finetuner: coop` are expanded."""
    tree = dict(mapping)
    tree |= {key: {} for key in ("space", "variants") if tree.get(key) is None}
    for key in (*METHODS, "scheduler"):
        if isinstance(tree.get(key), str):
            tree[key] = {"name": tree[key]}
        if key in METHODS and isinstance(options := tree.get(key, {}), dict):
            tree[key] = {"name": get_value(DEFAULTS, key), **options}
    if isinstance(space := tree["space"], dict):
        levels = {
            key: {"choices": choices} for key, choices in space.items() if isinstance(choices, list)
        }
        tree["space"] = {**space, **levels}
    return tree


def validate_part(model: type[Model], tree: dict[str, Any], *at: str) -> tuple[Model, list[Fault]]:
    """Validate the valid part of a mapping, and return it with the faults of the rest.

    Invalid fields are removed from the mapping, and of `variants` only the invalid entries.

    Args:
        model: Class to create. An invalid name or space of a study is replaced by a placeholder.
        tree: The mapping. Its invalid fields are removed in place.
        at: Path of the mapping in the YAML.

    Returns:
        The model, and one fault for each path.
    """
    try:
        return model.model_validate(tree), []
    except ValidationError as error:
        for details in error.errors():
            *parents, last = details["loc"][: 3 if details["loc"][0] == "variants" else 1]
            node = tree
            for step in parents:
                node = node[str(step)]
            node.pop(str(last), None)
        placeholders = {"name": "none", "space": {}} if model is StudyConfig else {}
        return model.model_validate({**placeholders, **tree}), _faults(error, at)


def _faults(error: ValidationError, at: Sequence[str]) -> list[Fault]:
    """Return the faults of a pydantic error, one for each path."""
    errors = error.errors(include_url=False)
    # pydantic also reports a list as too short if none of its levels is valid
    faults = [
        _fault(details, at)
        for details in errors
        if details["type"] != "too_short" or not details["input"]
    ]
    return list({fault.path: fault for fault in faults}.values())


def _fault(details: ErrorDetails, at: Sequence[str]) -> Fault:
    """Return one of pydantic's errors as a fault, with its path in the YAML."""
    kind, got, context = details["type"], details["input"], details.get("ctx", {})
    location = [*at, *details["loc"]]
    kinds, variant = GROUPS.get(str(location[0]), {}), ""
    if len(location) > 1 and "" not in kinds and kinds:  # the YAML has no key for a variant's name
        variant = str(location.pop(1))
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)[1:]
    reason = details["msg"].removeprefix("Value error, ")
    reason = reason if reason.startswith("must") else f"is not valid: {reason}"
    rule = _RULES[kind].format(**context) if kind in _RULES else reason
    detail = f" for {location[0]} {variant}" if variant else ""
    if kind == "missing":
        return Fault(path, rule, detail=detail)
    if kind == "extra_forbidden":
        keys = tuple(kinds.get(variant, Factor).model_fields)
        suggestion = nearest(str(location[-1]), keys)
        return Fault(path, rule, choices=keys, suggestion=suggestion, detail=detail)
    if isinstance(got, list) and kind in _SCALAR_ERRORS and location[0] in TRIAL_KEYS:
        detail += " (list the levels of a factor under space)"
    expected = str(context.get("expected", context.get("expected_tags", "")))
    choices = tuple(re.findall(r"'([^']*)'", expected))
    is_method_name = kind == "union_tag_invalid" and location[0] in METHODS
    advice = FOR_PLUGINS if is_method_name else ""
    return Fault(path, rule, context.get("tag", got), choices, detail=detail, advice=advice)
