"""What is wrong with values, as pydantic finds it all at once, in the words of a YAML."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.config.dotted import GROUPS
from harness.config.factor import AS_TEXT
from harness.errors import Fault
from harness.wording import nearest
from ship.trial_config import TrialConfig

Model = TypeVar("Model", bound=BaseModel)

# pydantic's error type -> what the value must be; braces are filled from the error's context.
_MUST = {
    "missing": "must be given",
    "extra_forbidden": "must be a known key",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
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
_OF_ONE_VALUE = ("int_type", "float_type", "string_type", "bool_type", "literal_error")


def validated(
    model: type[Model], tree: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> tuple[Model, list[Fault]]:
    """Settings that a YAML gives, and every fault of them, one for each path.

    Where there are faults, the settings are those of the keys that are sound.

    Args:
        defaults: for keys that are required, and not given or faulty.
    """
    try:
        return model.model_validate({**(defaults or {}), **tree}), []
    except ValidationError as error:
        found = error.errors(include_url=False)
    faulty = {details["loc"][0] for details in found}
    sound = {key: value for key, value in tree.items() if key not in faulty}
    faults = [_fault(details, model) for details in found]
    # of the two that pydantic has for int | float the last one, "a number", says more
    unique = {fault.path: fault for fault in faults}
    return model.model_validate({**(defaults or {}), **sound}), list(unique.values())


def _fault(details: ErrorDetails, model: type[BaseModel]) -> Fault:
    path, owner = _place(details["loc"], model)
    kind, got, context = details["type"], details["input"], details.get("ctx", {})
    reason = details["msg"].removeprefix("Value error, ")
    reason = reason if reason.startswith("must") else f"must be valid: {reason}"
    must = _MUST[kind].format(**context) if kind in _MUST else reason
    if kind == "missing":
        return Fault(path, must)
    if kind == "extra_forbidden":
        keys = tuple(owner.model_fields)
        return Fault(path, must, choices=keys, near=nearest(path.rpartition(".")[2], keys))
    listed = str(context.get("expected", context.get("expected_tags", "")))
    choices = tuple(re.findall(r"'([^']*)'", listed))
    got = context.get("tag", got)
    if isinstance(got, dict) and "image_folder" in got:
        must = AS_TEXT
    elif isinstance(got, list | dict) and kind in _OF_ONE_VALUE and model is TrialConfig:
        must += " (levels stand under space)"
    return Fault(path, must, got, choices, nearest(str(got), choices))


def _place(loc: tuple[int | str, ...], model: type[BaseModel]) -> tuple[str, type[BaseModel]]:
    """The YAML's path of a place that pydantic tells, and whose settings are there."""
    group, *inside = loc
    kinds = GROUPS.get(str(group), {})
    if inside and kinds:  # the name of a variant is no key of the YAML
        model = kinds["" if "" in kinds else str(inside.pop(0))]
    if inside and inside[-1] in ("int", "constrained-int", "float"):  # nor is one of int | float
        inside.pop()
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in inside)
    return f"{group}{''.join(parts)}", model
