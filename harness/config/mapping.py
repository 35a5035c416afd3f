"""What a YAML holds as mappings: with each --set put in, and what pydantic finds wrong with it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.config.factor import AS_TEXT, Factor
from harness.config.space import DEFAULTS, GROUPS, METHODS, takes, trial_fields, value_of
from harness.config.study_config import OWN_KEYS, VARIED
from harness.errors import ConfigError, Fault
from harness.study_files import parse_value
from harness.wording import nearest, show

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
_OF_ONE_VALUE = ("int_type", "float_type", "string_type", "bool_type", "literal_error")
# space, a factor's key, one of the factor's own keys, and what stands below that
_IN_SPACE = re.compile(rf"(space)\.(.+?)(?:\.({'|'.join(Factor.model_fields)})(?:\.(.+))?)?")


@dataclass(frozen=True)
class Override:
    """One --set: a value, and the dotted path that it is put at, over the file's."""

    path: str
    value: Any

    @property
    def steps(self) -> tuple[str, ...]:
        """Where the path leads: a factor's key is itself dotted, and is one step below space."""
        found = _IN_SPACE.fullmatch(self.path)
        return tuple(filter(None, found.groups())) if found else tuple(self.path.split("."))

    @property
    def drops(self) -> bool:
        """Whether a null says that nothing is to stand in a place, and is no value itself."""
        root, *rest = self.steps
        if self.value is not None or not rest or root not in ("space", "variants"):
            return False
        leaf = ".".join(rest[2:])  # of a level's settings; a dataset's may be of any group
        field = trial_fields().get(leaf if rest[0] == "dataset" else f"{rest[0]}.{leaf}", {})
        return len(rest) == 1 if root == "space" else not takes(field, NoneType)


def parse_overrides(
    texts: Sequence[str], option: str = "--set"
) -> tuple[list[Override], list[str]]:
    """The overrides that can be read (values are YAML), and a line for each that cannot.

    Args:
        texts: KEY=VALUE each.
        option: of the command line that they stand behind.
    """
    given: list[Override] = []
    lines: list[str] = []
    for text in texts:
        path, equals, value = text.partition("=")
        path = path.strip()
        if not equals or not all(path.split(".")):
            lines.append(f"{option}: {text!r} must be key=value, e.g. shots=4")
            continue
        try:
            given.append(Override(path, parse_value(value, f"{option}: {path}")))
        except ConfigError as error:
            lines += error.faults
    return given, lines


def apply_overrides(
    mapping: Mapping[str, Any], given: Sequence[Override]
) -> tuple[dict[str, Any], list[str]]:
    """A YAML's mapping, spelled out, with the overrides put in, in their order.

    `space.KEY=null` drops a factor, and `variants.GROUP=null`, `variants.GROUP.LEVEL=null` and so
    on what stands there, unless it is a setting whose value may be null. What stands in an
    override's way without being a mapping (`resources: 3` before `resources.cpus=2`) is left.

    Returns:
        The mapping; and a line for each override that found no mapping on its way.
    """
    tree, blocked = spelled_out(plain(mapping)), []
    for item in given:
        *way, last = item.steps
        inside: Any = tree
        for place, step in enumerate(way, start=1):
            if inside.get(step) is None:
                inside[step] = {}
            inside = inside[step]
            if not isinstance(inside, dict):
                lead = ".".join(way[:place])
                must = f"must lead into mappings, {lead} is {show(inside)}"
                blocked.append(Fault(item.path, must).line("--set"))
                break
        else:
            inside[last] = deepcopy(item.value)
            if item.drops:
                del inside[last]
        tree = spelled_out(tree)
    return tree, blocked


def plain(value: Any) -> Any:
    """A copy with dicts and lists, as YAML has them, in the place of other mappings and tuples."""
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def take_away(tree: Any, steps: Sequence[Any]) -> None:
    """Take what stands at a place, if anything does, out of a tree of mappings."""
    *way, last = steps
    for step in way:
        tree = tree.get(step) if isinstance(tree, dict) else None
    if isinstance(tree, dict):
        tree.pop(last, None)


def spelled_out(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """A YAML's mapping with what its short forms stand for, such as `finetuner: coop`."""
    tree = dict(mapping)
    tree |= {key: {} for key in ("space", "variants") if tree.get(key) is None}
    for key in (*METHODS, "scheduler"):
        if isinstance(tree.get(key), str):
            tree[key] = {"name": tree[key]}
        if key in METHODS and isinstance(inside := tree.get(key, {}), dict):
            tree[key] = {"name": value_of(DEFAULTS, key), **inside}
    if tree.get("resources") == "auto":
        tree["resources"] = {"auto": True}
    if isinstance(space := tree["space"], dict):
        choices = {key: {"choices": one} for key, one in space.items() if isinstance(one, list)}
        tree["space"] = {**space, **choices}
    return tree


def validated(
    model: type[Model], tree: Mapping[str, Any], spare: Mapping[str, Any] | None = None
) -> tuple[Model, list[Fault]]:
    """Settings that a YAML gives, and every fault of them, one for each path.

    Where there are faults, the settings are those of the keys that are sound. What these have
    against each other, or against a default in a faulty key's place, is no fault of the YAML.

    Args:
        spare: for keys that are required, and faulty.
    """
    faults: dict[str, Fault] = {}
    while True:
        try:
            whole = {**(spare or {}), **tree} if faults else tree
            return model.model_validate(whole), list(faults.values())
        except ValidationError as error:
            told = error.errors(include_url=False)
        # a list is too short for pydantic, too, where none of its levels is sound
        real = (one for one in told if one["type"] != "too_short" or not one["input"])
        found = [_fault(details) for details in real]
        faults = faults or {fault.path: fault for _, fault in found}
        tree = deepcopy(dict(tree))
        # a factor is sound as a whole, or is not
        faulty = [steps[:2] if steps[0] == "space" else steps for steps, _ in found]
        for steps in {_there(tree, steps) for steps in faulty} - {()}:
            take_away(tree, steps)


def _there(tree: Any, steps: Sequence[Any]) -> tuple[Any, ...]:
    """Steps, as far as they lead through mappings that are there: a list is one whole."""
    for place, step in enumerate(steps):
        if not isinstance(tree, dict) or step not in tree:
            return tuple(steps[:place])
        tree = tree[step]
    return tuple(steps)


def _fault(details: ErrorDetails) -> tuple[list[Any], Fault]:
    """A mistake, and the steps that lead to its value."""
    loc = list(details["loc"])
    if loc[-1] == "[key]":  # what pydantic calls a key itself
        loc.pop()
    steps, keys = _place(loc)
    of_trial = steps[0] == "trial"
    root, *rest = steps[of_trial:]
    path = str(root) + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in rest)
    kind, got, context = details["type"], details["input"], details.get("ctx", {})
    reason = details["msg"].removeprefix("Value error, ")
    reason = reason if reason.startswith("must") else f"must be valid: {reason}"
    must = _MUST[kind].format(**context) if kind in _MUST else reason
    if kind == "missing":
        return steps, Fault(path, must)
    if kind == "extra_forbidden":
        return steps, Fault(path, must, choices=tuple(keys), near=nearest(str(steps[-1]), keys))
    listed = str(context.get("expected", context.get("expected_tags", "")))
    choices = tuple(re.findall(r"'([^']*)'", listed))
    got = context.get("tag", got)
    if isinstance(got, dict) and "image_folder" in got:
        must = AS_TEXT
    elif kind == "model_type" and steps[0] == "space":
        must = "must be a list of levels, or a mapping"
    elif isinstance(got, list | dict) and kind in _OF_ONE_VALUE and of_trial:
        must += " (levels stand under space)"
    return steps, Fault(path, must, got, choices, nearest(str(got), choices))


def _place(loc: list[Any]) -> tuple[list[Any], Iterable[str]]:
    """A place that pydantic tells, without names of variants, and the keys that may stand there."""
    at = int(loc[0] == "trial")
    kinds = GROUPS.get(str(loc[at]), {})
    if kinds and len(loc) > at + 1:  # the name of a variant is no key of the YAML
        kind = kinds[""] if "" in kinds else kinds[loc.pop(at + 1)]
        return loc, kind.model_fields
    if loc[0] == "variants":
        return loc, VARIED if len(loc) == 2 else OWN_KEYS
    return loc, Factor.model_fields
