"""Dotted names of settings: who has which, and what a setting or a --set puts at them."""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import NoneType
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.config.factor import Factor
from harness.config.study_config import SCHEDULERS, Record, Resources
from harness.errors import ConfigError
from harness.study_files import parse_value
from ship.configs import FINETUNERS, GENERATORS
from ship.registry import Registry
from ship.trial_config import SyntheticConfig, TrialConfig

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
# space, a factor's key, one of the factor's own keys, and what stands below that
_IN_SPACE = re.compile(rf"(space)\.(.+?)(?:\.({'|'.join(Factor.model_fields)})(?:\.(.+))?)?")

Variants = Mapping[str, Mapping[str, Mapping[str, Any]]]


def trial_fields() -> dict[str, dict[str, FieldInfo]]:
    """Every dotted name that a factor may vary -> the variants that have it, "" without variants.

    A group of several variants stands for its variant's name: `generator`, not `generator.name`.
    Loaded plugins are among the variants.
    """
    found: dict[str, dict[str, FieldInfo]] = {}
    for name, info in TrialConfig.model_fields.items():
        kinds = GROUPS.get(name, {})
        if "" not in kinds:
            found[name] = {"": info}
        for variant, kind in kinds.items():
            for leaf, field in kind.model_fields.items():
                if leaf != "name":
                    found.setdefault(f"{name}.{leaf}", {})[variant] = field
    return found


def takes(owners: Mapping[str, FieldInfo], kind: type[Any]) -> bool:
    """Whether a setting may be of a type, in any of the variants that have it."""
    fields = owners.values()
    return any(kind in (info.annotation, *get_args(info.annotation)) for info in fields)


def value_of(trial: TrialConfig, key: str) -> Any:
    """A trial's value of a dotted name ("targets[1]", too); of a group its name.

    None where there is none.
    """
    name, _, index = key.removesuffix("]").partition("[")
    value: Any = trial
    for part in name.split("."):
        value = getattr(value, part, None)
    return value[int(index)] if index else getattr(value, "name", value)


def place(
    tree: Mapping[str, Any], values: Mapping[str, Any], variants: Variants | None = None
) -> dict[str, Any]:
    """A copy of a trial's settings, in which groups are mappings, with the values at their names.

    A name given to a group of several variants (`generator: none`) replaces the group by that
    variant, unless it is that variant already. Groups go first, their members after.

    Args:
        variants: what a study has of them: settings that such a replacement has beside its
            defaults, and those that the dataset has of its own, over which the values go.
    """
    placed, known = dict(tree), variants or {}
    values = {**of_dataset(tree, values, known), **values}
    for path, value in sorted(values.items(), key=lambda item: "." in item[0]):
        group, _, leaf = path.partition(".")
        inside = placed.get(group, {})
        if leaf:
            placed[group] = {**inside, leaf: value}
        elif group not in METHODS:
            placed[group] = value
        elif inside.get("name") != value:
            # a name that is no text is a fault of its own
            beside = known.get(group, {}).get(value, {}) if isinstance(value, str) else {}
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


def parse_overrides(texts: Sequence[str]) -> tuple[list[Override], list[str]]:
    """The overrides that can be read (values are YAML), and a line for each that cannot."""
    given: list[Override] = []
    lines: list[str] = []
    for text in texts:
        path, equals, value = text.partition("=")
        path = path.strip()
        if not equals or not all(path.split(".")):
            lines.append(f"--set: {text!r} must be key=value, e.g. shots=4")
            continue
        try:
            given.append(Override(path, parse_value(value, f"--set: {path}")))
        except ConfigError as error:
            lines += error.faults
    return given, lines


def apply_overrides(
    mapping: Mapping[str, Any], given: Sequence[Override]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """A YAML's mapping, spelled out, with the overrides put in, in their order.

    `space.KEY=null` drops a factor, and `variants.GROUP=null`, `variants.GROUP.LEVEL=null` and so
    on what stands there, unless it is a setting whose value may be null. What stands in an
    override's way without being a mapping (`resources: 3` before `resources.cpus=2`) is left.

    Returns:
        The mapping; and each place, dotted, where an override found no mapping on its way, with a
        line that says so.
    """
    tree, blocked = spelled_out(deepcopy(dict(mapping))), []
    for item in given:
        *way, last = item.steps
        inside: Any = tree
        for place, step in enumerate(way, start=1):
            if inside.get(step) is None and not item.drops:
                inside[step] = {}
            inside = inside.get(step, {})
            if not isinstance(inside, dict):
                lead = ".".join(way[:place])
                line = f"--set: {item.path} must lead into mappings, {lead} is {inside!r}"
                blocked.append((lead, line))
                break
        else:
            inside[last] = deepcopy(item.value)
            if item.drops:
                del inside[last]
        tree = spelled_out(tree)
    return tree, blocked


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
    for key in (*METHODS, "scheduler"):
        if isinstance(tree.get(key), str):
            tree[key] = {"name": tree[key]}
        if key in METHODS and isinstance(inside := tree.get(key, {}), dict):
            tree[key] = {"name": value_of(DEFAULTS, key), **inside}
    if tree.get("resources") == "auto":
        tree["resources"] = {"auto": True}
    if isinstance(space := tree.get("space"), dict):
        choices = {key: {"choices": one} for key, one in space.items() if isinstance(one, list)}
        tree["space"] = {**space, **choices}
    return tree
