"""Apply overrides to a YAML's mapping, validate the mapping, and convert pydantic's errors."""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.config.factor import Factor
from harness.config.space import DEFAULTS, GROUPS, METHODS, get_value
from harness.config.study_config import TRIAL_KEYS, StudyConfig
from harness.errors import ConfigError, Fault
from harness.study_files import parse_value
from harness.wording import find_closest

Model = TypeVar("Model", bound=BaseModel)

# pydantic's error type -> rule of the fault, formatted with the error's context.
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
# Start of messages about an override. Messages about the YAML start with its file's name instead.
OVERRIDE = "overrides (--set)"
# Advice for an unknown method or dataset.
PLUGIN_ADVICE = "If a plugin defines it, name its file or module in plugins (--plugin)"
# pydantic's errors about a constant of the wrong type. If its value is a list, the message says
# that levels belong under `space`.
_SCALAR_ERRORS = ("int_type", "float_type", "string_type", "bool_type", "literal_error")
# Path of a factor. Groups: "space", the factor's dotted key, and optionally one of the factor's own
# keys and all that follows it.
_IN_SPACE = re.compile(rf"(space)\.(.+?)(?:\.({'|'.join(Factor.model_fields)})(?:\.(.+))?)?")
# Top-level key -> maximum depth below it at which null removes an entry, e.g. 1 for space.KEY=null.
# Below that depth, null is a value.
_REMOVAL_DEPTH = {"space": 1, "variants": 2}


class Override(NamedTuple):
    """One `--set KEY=VALUE`.

    Attributes:
        path: Dotted path of the key in the YAML.
        value: Parsed value, which replaces the YAML's.
    """

    path: str
    value: Any


def split_path(path: str) -> tuple[str, ...]:
    """Split a dotted path into keys. The dotted key of a factor below `space` stays whole.

    For example, space.finetuner.lr.low becomes ("space", "finetuner.lr", "low").
    """
    match = _IN_SPACE.fullmatch(path)
    return tuple(filter(None, match.groups())) if match else tuple(path.split("."))


def parse_overrides(
    texts: Sequence[str], source: str = OVERRIDE
) -> tuple[list[Override], list[str]]:
    """Parse overrides of the form KEY=VALUE.

    Args:
        texts: The overrides. KEY is a dotted path, and VALUE is YAML.
        source: Start of each error line.

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
    """Return a copy of a YAML's mapping with overrides applied, in long form.

    `space.KEY=null` removes a factor. `variants.GROUP=null` and `variants.GROUP.LEVEL=null` remove
    these variants. In all other paths null is a value. Missing parents of a key are created. An
    override is not applied if a parent exists but is not a mapping, e.g. `resources.cpus=2` if the
    YAML has `resources: 3`.

    Args:
        mapping: Mapping of the YAML, which is not changed.
        overrides: Overrides to apply, in this order.

    Returns:
        The new mapping, and an error line for each override that was not applied.
    """
    tree, lines = expand_short_forms(deepcopy(dict(mapping))), list[str]()
    for override in overrides:
        *parents, last = split_path(override.path)
        node: Any = tree
        for depth, key in enumerate(parents, start=1):
            if node.get(key) is None:
                node[key] = {}
            node = node[key]
            if not isinstance(node, dict):
                rule = f"cannot be set: {'.'.join(parents[:depth])} must be a mapping"
                lines.append(Fault(override.path, rule, node).format_line(OVERRIDE))
                break
        else:
            is_null = override.value is None
            if is_null and 1 <= len(parents) <= _REMOVAL_DEPTH.get(parents[0], 0):
                node.pop(last, None)
            else:
                node[last] = deepcopy(override.value)  # a later override may change the copy
        tree = expand_short_forms(tree)  # an override may have a value in short form
    return tree, lines


def expand_short_forms(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a YAML's mapping with its short forms expanded.

    - `finetuner: coop` becomes `finetuner: {name: coop}`; also for `generator` and `scheduler`.
    - A generator or fine-tuner without a name gets the default name.
    - A factor `KEY: [...]` becomes `KEY: {choices: [...]}`.
    - Missing `space` and `variants` become {}.

    Values of unexpected types are kept. The validation reports them later.
    """
    long_form = dict(mapping)
    long_form |= {key: {} for key in ("space", "variants") if long_form.get(key) is None}
    for key in (*METHODS, "scheduler"):
        if isinstance(long_form.get(key), str):
            long_form[key] = {"name": long_form[key]}
        if key in METHODS and isinstance(options := long_form.get(key, {}), dict):
            long_form[key] = {"name": get_value(DEFAULTS, key), **options}
    if isinstance(space := long_form["space"], dict):
        long_form["space"] = {
            key: {"choices": entry} if isinstance(entry, list) else entry
            for key, entry in space.items()
        }
    return long_form


def validate_part(model: type[Model], tree: dict[str, Any], *at: str) -> tuple[Model, list[Fault]]:
    """Build a model from the valid fields of a mapping; return it and the faults of invalid fields.

    From `variants` only the invalid entries are removed, and not the whole field.

    Args:
        model: Class of the model. The required fields `name` and `space` of a StudyConfig get
            placeholders if they are invalid or missing.
        tree: The mapping. Its invalid fields are removed in place.
        at: Path of the mapping in the YAML, as keys. Omitted for the top level.

    Returns:
        The model, and one fault for each invalid path.
    """
    try:
        return model.model_validate(tree), []
    except ValidationError as error:
        for details in error.errors():
            # an entry of `variants` is variants.GROUP.LEVEL
            depth = 3 if details["loc"][0] == "variants" else 1
            *parents, last = details["loc"][:depth]
            node = tree
            for key in parents:
                node = node[str(key)]
            node.pop(str(last), None)
        placeholders = {"name": "none", "space": {}} if model is StudyConfig else {}
        return model.model_validate({**placeholders, **tree}), _convert_errors(error, at)


def _convert_errors(error: ValidationError, at: Sequence[str]) -> list[Fault]:
    """Return the faults of a pydantic error, one for each path.

    Args:
        error: The error.
        at: Path of the validated mapping in the YAML, as keys.
    """
    errors = error.errors(include_url=False)
    # if no level of a list is valid, pydantic also reports that the list is too short
    faults = [
        _make_fault(details, at)
        for details in errors
        if details["type"] != "too_short" or not details["input"]
    ]
    return list({fault.path: fault for fault in faults}.values())


def _make_fault(details: ErrorDetails, at: Sequence[str]) -> Fault:
    """Return one of pydantic's errors as a fault, with its path in the YAML.

    Args:
        details: The error.
        at: Path of the validated mapping in the YAML, as keys.
    """
    error_type, value, context = details["type"], details["input"], details.get("ctx", {})
    location = [*at, *details["loc"]]
    classes_by_tag, tag = GROUPS.get(str(location[0]), {}), ""
    if len(location) > 1 and classes_by_tag and "" not in classes_by_tag:
        # pydantic's location contains the union's tag (e.g. coop), which is no key of the YAML
        tag = str(location.pop(1))
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location)[1:]
    if error_type in _RULES:
        rule = _RULES[error_type].format(**context)
    else:
        message = details["msg"].removeprefix("Value error, ")
        rule = message if message.startswith("must") else f"is not valid: {message}"
    detail = f" for {location[0]} {tag}" if tag else ""
    if error_type == "missing":
        return Fault(path, rule, detail=detail)
    if error_type == "extra_forbidden":
        keys = tuple(classes_by_tag.get(tag, Factor).model_fields)
        suggestion = find_closest(str(location[-1]), keys)
        return Fault(path, rule, choices=keys, suggestion=suggestion, detail=detail)
    if isinstance(value, list) and error_type in _SCALAR_ERRORS and location[0] in TRIAL_KEYS:
        detail += " (list the levels of a factor under space)"
    expected = str(context.get("expected", context.get("expected_tags", "")))
    choices = tuple(re.findall(r"'([^']*)'", expected))
    is_method_name = error_type == "union_tag_invalid" and location[0] in METHODS
    advice = PLUGIN_ADVICE if is_method_name else ""
    return Fault(path, rule, context.get("tag", value), choices, detail=detail, advice=advice)
