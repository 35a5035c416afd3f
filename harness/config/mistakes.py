"""Faults of a study: collected all at once, one line each that names file, key, value, choices."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.config.dotted import variants
from harness.errors import Fault
from harness.wording import nearest
from ship.trial_config import TrialConfig

AS_TEXT = "must be text: write image_folder:NAME, without a space"
# pydantic's error type -> what the value must be; braces are filled from the error's context.
_MUST = {
    "missing": "must be given",
    "extra_forbidden": "must be a known key",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing_size": "must be a smaller integer",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a name or a mapping",
    "literal_error": "must be one of the choices",
    "union_tag_invalid": "must be one of the choices",
    "union_tag_not_found": "must have a name",
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
}


def trial_faults(tree: Mapping[str, Any]) -> list[Fault]:
    """Faults of a trial's settings, or of some of them, as a YAML gives them."""
    try:
        TrialConfig.model_validate(tree)
    except ValidationError as error:
        return [_as_text(fault) for fault in from_pydantic(error, TrialConfig)]
    return []


def _as_text(fault: Fault) -> Fault:
    """`image_folder: pets` with a space is a mapping to YAML."""
    if isinstance(fault.got, dict) and "image_folder" in fault.got:
        return replace(fault, must=AS_TEXT)
    return fault


def from_pydantic(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """Translate pydantic's faults into the house's, one for each path of the YAML."""
    faults: dict[str, Fault] = {}
    for details in error.errors(include_url=False):
        fault = _translate(details, model)
        if details["loc"][-1:] == ("float",):  # of int | float: "a number" says more
            faults[fault.path] = fault
        faults.setdefault(fault.path, fault)
    return list(faults.values())


def _translate(details: ErrorDetails, model: type[BaseModel]) -> Fault:
    path, owner = _locate(details["loc"], model)
    kind, got = details["type"], details["input"]
    context = details.get("ctx", {})
    if kind == "extra_forbidden":
        keys = tuple(owner.model_fields) if owner else ()
        return Fault(path, _MUST[kind], choices=keys, near=nearest(path.rpartition(".")[2], keys))
    if kind == "missing":
        return Fault(path, _MUST[kind])
    if kind in ("literal_error", "union_tag_invalid"):
        listed = str(context.get("expected", context.get("expected_tags", "")))
        choices = tuple(re.findall(r"'([^']*)'", listed))
        got = context.get("tag", got)
        return Fault(path, _MUST[kind], got, choices, nearest(str(got), choices))
    if kind == "value_error":
        reason = str(context.get("error", details["msg"]))
        return Fault(path, reason if reason.startswith("must") else f"must be valid: {reason}", got)
    must = _MUST.get(kind, f"must be valid: {details['msg']}")
    for name, bound in context.items():
        must = must.replace(
            f"{{{name}}}", f"{bound:.12g}" if isinstance(bound, float) else str(bound)
        )
    return Fault(path, must, got)


def _locate(
    loc: tuple[int | str, ...], model: type[BaseModel]
) -> tuple[str, type[BaseModel] | None]:
    """The YAML path of a pydantic location, without union branches, and the settings it is of."""
    path, owner = "", model
    branches: dict[str, type[BaseModel]] = {}
    inside: type[BaseModel] | None = model
    for item in loc:
        if branches and str(item) in branches:  # the tag of a union is no key of the YAML
            inside, branches = branches[str(item)], {}
            continue
        if isinstance(item, int):
            path += f"[{item}]"
            continue
        if inside is None:
            if item in ("int", "constrained-int", "float"):  # a branch of int | float
                continue
            path += f".{item}"
            continue
        path, owner = f"{path}.{item}" if path else item, inside
        field = inside.model_fields.get(item)
        branches = variants(field) if field else {}
        inside = branches.pop("", None)
    return path, owner
