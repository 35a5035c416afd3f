"""One table of names: the built-ins, and the plugins that were asked for."""

import re
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from ship.registry.plugin import DatasetPlugin, Origin, Plugin, PluginError, name_of
from ship.settings import NamedSettings

Entry = TypeVar("Entry")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Registry(dict[str, Entry], Generic[Entry]):
    """Name in a YAML -> what is registered under it, built-ins first.

    Asked for a name that it does not have (`table[name]`, `name in table`), it looks among the
    entry points of the installed packages, and loads the one of that name. No other one is
    imported, and as long as only built-ins are asked for, none is looked for.

    A table is the process's own, as the imported modules are: whatever is loaded stays.

    origins: of the plugins that are loaded, by name.
    """

    def __init__(
        self,
        noun: str,
        group: str,
        kind: type[Any],
        builtin: Mapping[str, Entry],
    ) -> None:
        """Make a table of built-ins.

        Args:
            noun: what messages call an entry, such as "generator".
            group: of the entry points.
            kind: what a plugin is: a class of such settings, or a DatasetPlugin.
            builtin: the entries that come with ship.
        """
        super().__init__(builtin)
        self.noun, self.group, self.kind = noun, group, kind
        self._builtin = frozenset(builtin)
        self.origins: dict[str, Origin] = {}
        self._installed: dict[str, list[EntryPoint]] | None = None

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and self._load(name))

    def __missing__(self, name: str) -> Entry:
        if self._load(name):
            return super().__getitem__(name)
        raise KeyError(name)

    def find(self, name: str) -> Entry | None:
        """What is registered under a name; None: nothing is.

        Raises:
            PluginError: the plugin of that name cannot be loaded.
        """
        try:
            return self[name]
        except KeyError:
            return None

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
            return isinstance(candidate, self.kind)
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
        if isinstance(plugin, DatasetPlugin):
            for needed in ("template", "survey"):
                if not hasattr(plugin.spec, needed):
                    raise PluginError(f"{origin.said}: dataset {name} has no {needed}")
        elif not isinstance(plugin.method, type) and ":" not in str(plugin.method):
            raise PluginError(
                f"{origin.said}: {self.noun} {name}: its settings must say `method`, a class of "
                f"ship.methods or where one stands, 'module:class', got {plugin.method!r}"
            )
        if name in self._builtin:
            raise PluginError(
                f"{origin.said}: {self.noun} {name} has the name of a built-in {self.noun}; "
                f"give it another one"
            )
        others = {_origin(point).said for point in self._entry_points().get(name, ())}
        if name in self.origins:
            others.add(self.origins[name].said)
        for other in sorted(others - {origin.said}):
            raise PluginError(
                f"{origin.said}: {self.noun} {name} has the name of one of {other}; use one of "
                f"the two"
            )

    def add(self, plugin: Any, origin: Origin) -> None:
        """Let a plugin join; one of the same origin, such as a file that was edited, is replaced.

        Raises:
            PluginError: see refuse.
        """
        self.refuse(plugin, origin)
        entry: Any = plugin.spec if isinstance(plugin, DatasetPlugin) else plugin
        self[name_of(plugin)] = entry
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
        plugin = imported(points[0].load, f"{origin.said}: {self.noun} {name}")
        if not self.takes(plugin):
            raise PluginError(
                f"{origin.said}: {self.noun} {name} must be a {self.kind.__name__}, and "
                f"{points[0].value} is not"
            )
        if name_of(plugin) != name:
            raise PluginError(
                f"{origin.said}: {self.noun} {name} calls itself {name_of(plugin)!r}; its entry "
                f"point must have that name"
            )
        self.add(plugin, origin)
        return True

    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        """Those of the installed packages by name, looked for once."""
        if self._installed is None:
            found: dict[str, list[EntryPoint]] = {}
            for point in entry_points(group=self.group):
                found.setdefault(point.name, []).append(point)
            self._installed = found
        for name in sorted(self._builtin.intersection(self._installed)):
            said = _origin(self._installed[name][0]).said
            raise PluginError(
                f"{said}: {self.noun} {name} has the name of a built-in {self.noun}; give it "
                f"another one, or uninstall the package"
            )
        return self._installed


def imported(load: Callable[[], Any], what: str) -> Any:
    """What `load` imports.

    Raises:
        PluginError: it raised whatever somebody else's code may raise; in one line.
    """
    try:
        return load()
    except (Exception, SystemExit) as error:
        first = (str(error).strip().splitlines() or [""])[0][:300]
        why = f"{type(error).__name__}: {first}" if first else type(error).__name__
        raise PluginError(f"{what} cannot be imported: {why}") from error


def _origin(point: EntryPoint) -> Origin:
    name = point.dist.name if point.dist else point.module
    version = point.dist.version if point.dist else "unknown"
    return Origin(f"package {name}", f"{name} {version}")
