"""Tables of what a YAML names: built-ins, and the plugins that join them; without torch.

Answers for: finding a name, loading the plugin behind it when it is first asked for, refusing a
name twice, and telling a plugin's version. The tables themselves stand beside what they list
(ship.configs, ship.datasets); what plugins are made of, ship.plugins hands on.
"""

import json
import re
from collections import UserDict
from collections.abc import Callable, Iterable, ValuesView
from difflib import get_close_matches
from functools import cache, reduce
from importlib.metadata import EntryPoint, entry_points
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

    said: in messages: "package ship-example" or "file my_method.py"; the file may be of another
        machine.
    identity: what the code is, in keys and tags: "ship-example 0.1" or "sha256:" and 64 digits.
    content: of a file; None for a package, which is to be installed wherever it is needed.
    """

    said: str
    identity: str
    content: bytes | None = None


class Registry(UserDict[str, Entry]):
    """Name in a YAML -> what is registered under it, built-ins first.

    Asked for a name that it does not have (`table[name]`, `table.get(name)`, `name in table`), it
    looks among the entry points of the installed packages, and loads the one of that name, or
    raises PluginError where it cannot be loaded. No other one is imported, and as long as only
    built-ins are asked for, none is looked for.

    A table is the process's own, as the imported modules are: whatever is loaded stays.

    origins: of the plugins that are loaded, by name.
    """

    def __init__(self, noun: str, group: str, kind: type[Any], builtin: Iterable[Any]) -> None:
        """Make a table of built-ins.

        Args:
            noun: what messages call an entry, such as "generator".
            group: of the entry points.
            kind: what a plugin is: a class of such settings, or a DatasetPlugin.
            builtin: what comes with ship; whatever is no such plugin is left out.
        """
        self.noun, self.group, self.kind = noun, group, kind
        super().__init__({name_of(one): _entry(one) for one in builtin if self.takes(one)})
        self._builtin = frozenset(self)
        self.origins: dict[str, Origin] = {}
        self._installed: dict[str, list[EntryPoint]] | None = None

    def __contains__(self, name: object) -> bool:
        return name in self.data or self._load(str(name))

    def __missing__(self, name: str) -> Entry:
        if self._load(name):
            return self.data[name]
        raise KeyError(name)

    def values(self) -> ValuesView[Entry]:
        """What is registered now; asked for at each validation, where UserDict's own is slow."""
        return self.data.values()

    def origin(self, name: str) -> Origin | None:
        """Where a plugin comes from; None for a built-in.

        Raises:
            PluginError: the plugin of that name cannot be loaded.
        """
        return self.origins.get(name) if name in self else None

    def names(self) -> tuple[str, ...]:
        """All names that may be asked for, whether they are loaded or not."""
        return tuple(dict.fromkeys([*self, *sorted(self._entry_points())]))

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
        self._refuse_builtin(name, origin)
        others = {_origin(point).said for point in self._entry_points().get(name, ())}
        if name in self.origins:
            others.add(self.origins[name].said)
        for other in sorted(others - {origin.said}):
            raise PluginError(f"{what} has the name of one of {other}; use one of the two")

    def add(self, plugin: Any, origin: Origin) -> None:
        """Let a plugin join; one of the same origin, such as a file that was edited, is replaced.

        Raises:
            PluginError: see refuse.
        """
        self.refuse(plugin, origin)
        self[name_of(plugin)] = _entry(plugin)
        self.origins[name_of(plugin)] = origin

    def _load(self, name: str) -> bool:
        """Load the plugin of that name from an installed package; whether there is one."""
        points = self._entry_points().get(name, []) if _NAME.fullmatch(name) else []
        if not points:
            return False
        if len(points) > 1:
            packages = " and ".join(sorted(_origin(point).said for point in points))
            raise PluginError(f"{self.noun} {name} is in {packages}; uninstall one of the two")
        origin = _origin(points[0])
        what = f"{origin.said}: {self.noun} {name}"
        plugin = imported(points[0].load, what)
        if not self.takes(plugin):
            must = f"must be a {self.kind.__name__}, and {points[0].value} is not"
            raise PluginError(f"{what} {must}")
        if name_of(plugin) != name:
            must = "its entry point must have that name"
            raise PluginError(f"{what} calls itself {name_of(plugin)!r}; {must}")
        self.add(plugin, origin)
        return True

    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        """Those of the installed packages by name, looked for once."""
        if self._installed is None:
            found: dict[str, list[EntryPoint]] = {}
            for point in entry_points(group=self.group):
                self._refuse_builtin(point.name, _origin(point))
                found.setdefault(point.name, []).append(point)
            self._installed = found
        return self._installed

    def _refuse_builtin(self, name: str, origin: Origin) -> None:
        if name in self._builtin:
            raise PluginError(
                f"{origin.said}: {self.noun} {name} has the name of a built-in {self.noun}; give "
                f"it another one, or leave it out"
            )


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
            names = ", ".join(f"'{known}'" for known in self.table.names())
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


def _origin(point: EntryPoint) -> Origin:
    name = point.dist.name if point.dist else point.module
    version = point.dist.version if point.dist else "unknown"
    return Origin(f"package {name}", f"{name} {version}")
