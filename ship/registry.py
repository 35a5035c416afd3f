"""Tables of what a YAML names: built-ins, and the plugins that join them; without torch.

Answers for: finding a name, refusing a name twice, and the origin of each plugin. The tables
themselves stand beside what they list (ship.configs, ship.datasets); ship.plugins loads plugins.
"""

import json
import re
from collections import UserDict
from collections.abc import Callable, Iterable, ValuesView
from difflib import get_close_matches
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, Field, GetCoreSchemaHandler, PydanticUserError, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ship.settings import NamedSettings

Entry = TypeVar("Entry")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class PluginError(ValueError):
    """A plugin cannot be used: one line that names it, the fault and where it comes from."""


class DatasetPlugin(NamedTuple):
    """A dataset. Of a generator or a fine-tuner, the class of its settings is the plugin.

    name: what a YAML says.
    spec: a ship.datasets.DatasetSpec: it has a template, and surveys what lies on disk.
    """

    name: str
    spec: Any


Plugin = type[NamedSettings] | DatasetPlugin


class Origin(NamedTuple):
    """Where a plugin comes from.

    said: in messages: "module ship_example" or "file my_method.py"; the file may be of another
        machine.
    identity: what the code is, in keys and tags: "ship-example 0.1" or "sha256:" and 64 digits.
    content: Content of a file. None for a module, which every node must be able to import.
    module: Name of the module, "" for a file.
    """

    said: str
    identity: str
    content: bytes | None = None
    module: str = ""


class Registry(UserDict[str, Entry]):
    """Name in a YAML -> what is registered under it, built-ins first.

    A table is the process's own, as the imported modules are: whatever is loaded stays.

    origins: of the plugins that are loaded, by name.
    """

    def __init__(self, noun: str, kind: type[Any], builtin: Iterable[Any]) -> None:
        """Make a table of built-ins.

        Args:
            noun: what messages call an entry, such as "generator".
            kind: what a plugin is: a class of such settings, or a DatasetPlugin.
            builtin: what comes with ship; whatever is no such plugin is left out.
        """
        self.noun, self.kind = noun, kind
        super().__init__({name_of(one): _entry(one) for one in builtin if self.takes(one)})
        self._builtin = frozenset(self)
        self.origins: dict[str, Origin] = {}

    def values(self) -> ValuesView[Entry]:
        """What is registered now; asked for at each validation, where UserDict's own is slow."""
        return self.data.values()

    def takes(self, candidate: Any) -> bool:
        """Whether something is a plugin for this table, sound or not.

        A class of settings without name and method is none: others may be derived from it.
        """
        if not isinstance(candidate, type) or not issubclass(candidate, NamedSettings):
            return type(candidate) is self.kind
        meant = name_of(candidate) or candidate.method is not None
        return issubclass(candidate, self.kind) and bool(meant)

    def refuse(self, plugin: Plugin, origin: Origin) -> None:
        """Look for what keeps a plugin from joining.

        Raises:
            PluginError: it has no proper name, or the name of another entry.
        """
        name = name_of(plugin)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(
                f"{origin.said}: a {self.noun} must have a name of letters, digits and "
                f"underscores (of settings: the default of `name`), got {name!r}"
            )
        what = f"{origin.said}: {self.noun} {name}"
        if isinstance(plugin, DatasetPlugin):
            for needed in ("template", "survey"):
                if not hasattr(plugin.spec, needed):
                    raise PluginError(f"{what} has no {needed}")
        elif not isinstance(plugin.method, type) and ":" not in str(plugin.method):
            raise PluginError(
                f"{what}: its settings must say `method`, a class of ship.methods or where one "
                f"stands, 'module:class', got {plugin.method!r}"
            )
        if name in self._builtin:
            raise PluginError(
                f"{what} has the name of a built-in {self.noun}; give it another one, or leave it "
                "out"
            )
        other = self.origins.get(name, origin).said
        if other != origin.said:
            raise PluginError(f"{what} has the name of one of {other}; use one of the two")

    def add(self, plugin: Any, origin: Origin) -> None:
        """Let a plugin join; one of the same origin, such as a file that was edited, is replaced.

        Raises:
            PluginError: see refuse.
        """
        self.refuse(plugin, origin)
        self[name_of(plugin)] = _entry(plugin)
        self.origins[name_of(plugin)] = origin


# What ends a process or a generator, whoever raises it. All else that a plugin raises is its error.
EXITS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)


class OneOf:
    """Marks a field whose settings are those of an entry of a table: Annotated[..., OneOf(table)].

    It is pydantic's union told apart by `name`, with its faults and their places, but for one
    thing: the table may grow, as a name that a YAML says may be a plugin's.
    """

    def __init__(self, table: Registry[Any]) -> None:
        self.table = table

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._validated)

    def _validated(self, value: Any, info: Any) -> Any:
        name = value.get("name") if isinstance(value, dict) else None
        if isinstance(name, str) and name not in self.table:
            names = ", ".join(f"'{known}'" for known in self.table)
            raise PydanticCustomError(
                "union_tag_invalid",
                "Input tag '{tag}' found using 'name' does not match any of the expected tags: "
                "{expected_tags}",
                {"discriminator": "'name'", "tag": name, "expected_tags": names},
            )
        union = _union(tuple(self.table.values()))
        # in JSON a list may be a tuple, say; a default is an instance already
        if info.mode == "json" and not isinstance(value, BaseModel):
            return union.validate_json(json.dumps(value))
        return union.validate_python(value)


@cache
def _union(kinds: tuple[type[Any], ...]) -> Any:
    """Pydantic's union of classes of settings, told apart by `name`."""
    union: Any = Annotated[reduce(or_, kinds), Field(discriminator="name")]
    return TypeAdapter(union)


def imported(load: Callable[[], Any], what: str) -> Any:
    """What `load` imports.

    Raises:
        PluginError: it raised whatever somebody else's code may raise; in one line.
    """
    try:
        return load()
    except KeyboardInterrupt:
        raise
    except PydanticUserError as error:
        raise PluginError(f"{what}{_settings_fault(error)}") from error
    except BaseException as error:
        raise PluginError(f"{what} cannot be imported: {in_one_line(error)}") from error


def _settings_fault(error: PydanticUserError) -> str:
    """Return what is wrong with a class of settings, in words that follow on from its file."""
    found = re.search(r"`(\w+) = ", error.message)
    if error.code != "model-field-missing-annotation" or not found:
        return f" cannot be imported: {in_one_line(error)}"
    name = found[1]
    near = " (did you mean method?)" if get_close_matches(name, ["method"]) else ""
    way_out = f"Write `{name}: TYPE = VALUE` if it is a key of the YAML"
    return f": attribute {name} of a settings class has no type annotation{near}. {way_out}"


def in_one_line(error: BaseException) -> str:
    """Return what was raised, and the first line of its text, if it has one."""
    try:
        first = (str(error).strip().splitlines() or [""])[0][:300]
    except EXITS:
        raise
    except BaseException:  # a plugin's error may raise another one where its text is asked for
        first = ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def name_of(plugin: Plugin) -> str:
    """What a YAML says, "" where settings have no name."""
    if isinstance(plugin, DatasetPlugin):
        return plugin.name
    name = plugin.model_fields["name"].default
    return name if isinstance(name, str) else ""


def _entry(plugin: Plugin) -> Any:
    """What a table has of it."""
    return plugin.spec if isinstance(plugin, DatasetPlugin) else plugin
