"""A group of settings that is one of a table's, told by its name."""

import json
from functools import reduce
from operator import or_
from typing import Annotated, Any, Final

from pydantic import Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ship.registry.table import Registry


class OneOf:
    """Marks a field whose settings are those of an entry of a table: Annotated[..., OneOf(table)].

    It is pydantic's union told apart by `name`, with its faults and their places, but for one
    thing: the table may grow, as a name that a YAML says may be a plugin's.
    """

    def __init__(self, table: Registry[Any]) -> None:
        self.table: Final = table
        self._unions: dict[tuple[type[Any], ...], TypeAdapter[Any]] = {}

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._validated)

    def _validated(self, value: Any, info: Any) -> Any:
        name = value.get("name") if isinstance(value, dict) else None
        if isinstance(name, str) and name not in self.table:
            names = ", ".join(f"'{known}'" for known in self.table.names())
            raise PydanticCustomError(
                "union_tag_invalid",
                "Input tag '{tag}' found using 'name' does not match any of the expected tags: "
                "{expected_tags}",
                {"discriminator": "'name'", "tag": name, "expected_tags": names},
            )
        if info.mode == "json":  # in which a list may be a tuple, say
            return self._union().validate_json(json.dumps(value))
        return self._union().validate_python(value)

    def _union(self) -> Any:
        """The union of what is registered now."""
        kinds = tuple(self.table.values())
        if kinds not in self._unions:
            union: Any = Annotated[reduce(or_, kinds), Field(discriminator="name")]
            self._unions[kinds] = TypeAdapter(union)
        return self._unions[kinds]
