"""Dotted names of nested settings: which fields there are, and who has them."""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ship.registry import OneOf


@dataclass(frozen=True)
class Field:
    """One dotted name; `owners` maps a group's variant ("" without variants) to its field."""

    owners: dict[str, FieldInfo]

    @property
    def types(self) -> set[Any]:
        """The plain types that the field takes in any variant, e.g. {int, NoneType}."""
        return {plain for info in self.owners.values() for plain in _flat(info.annotation)}

    @property
    def number(self) -> Literal["int", "float"] | None:
        """Whether low and high make sense for it, and of which kind its values are."""
        if self.types & {str, bool}:
            return None
        return "float" if float in self.types else "int" if int in self.types else None


def variants(field: FieldInfo) -> dict[str, type[BaseModel]]:
    """name -> settings class of a group that is one of several; {"": class} of one; {}: a leaf."""
    for mark in field.metadata:
        if isinstance(mark, OneOf):
            return dict(mark.table)
    classes = [item for item in _flat(field.annotation) if _is_settings(item)]
    if field.discriminator is None:
        return {"": classes[0]} if classes else {}
    return {item.model_fields[str(field.discriminator)].default: item for item in classes}


def dotted_fields(model: type[BaseModel]) -> dict[str, Field]:
    """Every dotted name that a factor may vary: leaves, and the groups that are one of several.

    A group of several variants stands for its variant's name: `generator`, not `generator.name`.
    """
    found: dict[str, Field] = {}
    for name, info in model.model_fields.items():
        classes = variants(info)
        if "" not in classes:
            found[name] = Field({"": info})
        owners: dict[str, dict[str, FieldInfo]] = {}
        for tag, inner in classes.items():
            for leaf, leaf_info in inner.model_fields.items():
                if leaf != "name" or tag == "":
                    owners.setdefault(f"{name}.{leaf}", {})[tag] = leaf_info
        found |= {path: Field(where) for path, where in owners.items()}
    return found


def _flat(annotation: Any) -> list[Any]:
    """The members of a union, in order, without Annotated."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for item in get_args(annotation) for inner in _flat(item)]
    if hasattr(annotation, "__metadata__"):
        return _flat(annotation.__origin__)
    return [str] if get_origin(annotation) is Literal else [annotation]


def _is_settings(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, BaseModel)


def place(
    tree: Mapping[str, Any],
    values: Mapping[str, Any],
    variants: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
) -> dict[str, Any]:
    """A copy of nested settings with the values at their dotted names.

    A name given to a group of several variants (`generator: none`) replaces the group by that
    variant, unless it is that variant already. Groups go first, their members after.

    Args:
        variants: group -> name -> settings that such a replacement has beside its defaults. Where
            it is no group but a plain setting (`dataset`), the settings are any of the tree; those
            inside a group are for the variant that they name, the tree's where they name none.
            The values go over them.
    """
    placed = dict(tree)
    values = {**brought_along(tree, values, variants or {}), **values}
    for path, value in sorted(values.items(), key=lambda item: item[0].count(".")):
        group, _, leaf = path.partition(".")
        inside = placed.get(group)
        if leaf:
            inside = {"name": inside} if isinstance(inside, str) else inside
            placed[group] = {**inside, leaf: value} if isinstance(inside, dict) else {leaf: value}
        elif not isinstance(inside, dict):
            placed[group] = value
        elif inside.get("name") != value:
            known = (variants or {}).get(group, {})
            settings = known.get(value, {}) if isinstance(value, str) else {}
            placed[group] = {**settings, "name": value}
    return placed


def brought_along(
    tree: Mapping[str, Any],
    values: Mapping[str, Any],
    variants: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[str, Any]:
    """What `variants` has for the value of each plain setting, by dotted names (see place)."""
    found: dict[str, Any] = {}
    for key, levels in variants.items():
        value = None if isinstance(tree.get(key), dict) else values.get(key, tree.get(key))
        settings = levels.get(value) if isinstance(value, str) else None
        for name, given in settings.items() if isinstance(settings, dict) else ():
            if not isinstance(given, dict):
                found[name] = given
                continue
            inside = tree.get(name)
            constant = inside.get("name") if isinstance(inside, dict) else None
            if given.get("name", constant) == values.get(name, constant):
                leaves = (leaf for leaf in given if leaf != "name")
                found |= {f"{name}.{leaf}": given[leaf] for leaf in leaves}
    return found
