"""Custom generators, fine-tuners and datasets: what a plugin is made of, and how it is loaded.

    from ship.plugins import FinetunerSettings

    class RidgeConfig(FinetunerSettings):
        method = "ship_example.methods:Ridge"
        name: Literal["ridge"] = "ridge"
        l2: float = Field(1.0, gt=0, description="weight of the penalty")

load_plugin loads the plugins of a file, or of a module that can be imported.
"""

import hashlib
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from importlib.abc import ExecutionLoader
from importlib.machinery import ModuleSpec
from importlib.metadata import distributions, packages_distributions, version
from importlib.util import decode_source, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from ship.configs import FINETUNERS, GENERATORS
from ship.registry import (
    DatasetPlugin,
    Origin,
    PluginError,
    Registry,
    imported,
    in_one_line,
    name_of,
)
from ship.settings import FinetunerSettings, GeneratorSettings
from ship.whole_file import read_whole

__all__ = ["DatasetPlugin", "FinetunerSettings", "GeneratorSettings", "PluginError", "load_plugin"]

MOST_BYTES: Final = 1 << 20
"""Of a file: it goes along with every worker."""
_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def load_plugin(path: Path | str) -> None:
    """Add the plugins of a file or a module to this process's tables.

    A file that was edited is read again. A module is imported once per process.

    Args:
        path: A Python file, or the dotted name of a module, such as "ship_example".

    Raises:
        PluginError: it cannot be read or imported, has no plugin, or one of another's name.
    """
    if _is_module(path):
        load_carried([_module_origin(str(path))])
        return
    try:
        content = read_whole(Path(path), MOST_BYTES)
    except ValueError as error:
        raise PluginError(f"file {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    load_carried([Origin(f"file {path}", f"sha256:{digest}", content)])


def load_carried(origins: Iterable[Origin]) -> None:
    """Load on a worker what its driver has loaded (carried).

    Raises:
        PluginError: as load_plugin, say where this node lacks a package that a file imports.
    """
    for given in origins:
        # this node may have another version of a module (require_builders)
        origin = _module_origin(given.module) if given.module else given
        load = partial(import_module, given.module) if given.module else partial(_module, given)
        module = imported(load, origin.said)
        # what it only imports, such as settings that its own are derived from, is not its plugin
        defined = [
            value
            for value in vars(module).values()
            if not isinstance(value, type) or _is_part(value.__module__, module.__name__)
        ]
        placed = [(table, value) for value in defined for table in _tables() if table.takes(value)]
        if not placed:
            raise PluginError(
                f"{origin.said}: has no plugin at its top level (a class of GeneratorSettings or "
                f"FinetunerSettings, or a DatasetPlugin)"
            )
        first: dict[tuple[str, str], Any] = {}
        for table, plugin in placed:  # all of them, or none
            table.refuse(plugin, origin)
            what = table.noun, name_of(plugin)
            if first.setdefault(what, plugin) is not plugin:
                raise PluginError(f"{origin.said}: has two plugins called {' '.join(what)}")
        for table, plugin in placed:
            table.add(plugin, origin)


def carried() -> tuple[Origin, ...]:
    """Return the files and modules whose plugins this process knows: its workers need them.

    A file's content goes along with what a worker is given anyway, some kB, and is imported there
    under a name made of its hash. A module is imported there by its name. Ray's py_modules would
    take a runtime environment: an upload, an agent on each node, and workers that Ray cannot start
    ahead.
    """
    origins = {origin for table in _tables() for origin in table.origins.values()}
    return tuple(sorted(origins, key=lambda origin: origin.said))


def identities(generator: str, finetuner: str, datasets: Sequence[str] = ()) -> dict[str, str]:
    """The plugins among what a setting names: "finetuner ridge" -> "ship-example 0.1".

    {} for a setting of built-ins alone.

    Args:
        generator, finetuner: their names.
        datasets: that it trains on and is tested on.
    """
    named: list[tuple[Registry[Any], str]] = [(GENERATORS, generator), (FINETUNERS, finetuner)]
    named += [(_tables()[2], name) for name in datasets]
    found = {f"{table.noun} {name}": table.origins.get(name) for table, name in named}
    return {key: origin.identity for key, origin in found.items() if origin is not None}


def require_builders(planned: Mapping[str, str]) -> None:
    """Import the methods of some generators and fine-tuners, as a trial does when it begins.

    Args:
        planned: what they are to be, as identities() tells it.

    Raises:
        PluginError: one is not here, is another version or file, or cannot be imported.
    """
    tables = {table.noun: table for table in (GENERATORS, FINETUNERS)}
    for plugin, identity in planned.items():
        noun, _, name = plugin.partition(" ")
        entry, origin = tables[noun].get(name), tables[noun].origins.get(name)
        if entry is None or origin is None or origin.identity != identity:
            found = origin.identity if origin else "not loaded"
            raise PluginError(f"{plugin} is {found}, and was planned as {identity}")
        imported(entry.load_method, f"{origin.said}: {plugin}")


def plugin_fault(error: BaseException) -> str | None:
    """Return one line on an error that the code of a plugin raised: the plugin, error and place.

    Returns:
        None if no loaded plugin's code was running.
    """
    origins = {
        (entry if isinstance(entry, type) else type(entry)).__module__.partition(".")[0]: origin
        for table in _tables()
        for name, origin in table.origins.items()
        for entry in [table[name]]
    }
    fault = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module != "ship" and module in origins:
            place = f"({frame.f_code.co_filename}, line {line})"
            fault = f"{origins[module].said}: raised {in_one_line(error)} {place}"
    return fault


class _Loader(ExecutionLoader):
    """Loads a module from bytes; tracebacks show the lines of the file that they came from."""

    def __init__(self, file: Origin) -> None:
        self._file = file

    def get_filename(self, fullname: str) -> str:
        return self._file.said.removeprefix("file ")

    def get_source(self, fullname: str) -> str:
        return decode_source(self._file.content or b"")


def installed_version(package: str) -> str:
    """Return the version of an installed package, "" if it is absent."""
    return next((found.version for found in distributions(name=package)), "")


def _is_module(name: Path | str) -> bool:
    """Return True if the text is a module's dotted name and not a file."""
    text = str(name)
    is_file = text.endswith(".py") or Path(name).is_file()
    return not is_file and _MODULE.fullmatch(text) is not None


def _is_part(name: str, whole: str) -> bool:
    """Return True if a module is another one, or one of its submodules."""
    return name == whole or name.startswith(f"{whole}.")


@cache  # looking for distributions reads what is installed; a module stays as it was imported
def _module_origin(name: str) -> Origin:
    """Import a module and return its origin.

    The identity is the version of the distribution that the module comes from, or else the SHA-256
    of its file. A package's identity is that of all its Python files.

    Raises:
        PluginError: The module cannot be imported, or comes from no file.
    """
    said = f"module {name}"
    module = imported(partial(import_module, name), said)
    names = set(packages_distributions().get(name.partition(".")[0], ()))
    if len(names) == 1:  # a namespace package may come from several
        (distribution,) = names
        return Origin(said, f"{distribution} {version(distribution)}", module=name)
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    files = [(folder, file) for folder in folders for file in sorted(folder.rglob("*.py"))]
    if not folders and getattr(module, "__file__", None):
        files = [(Path(str(module.__file__)).parent, Path(str(module.__file__)))]
    if not files:
        raise PluginError(f"{said} comes from no Python file")
    digest = hashlib.sha256()
    for folder, file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return Origin(said, f"sha256:{digest.hexdigest()}", module=name)


def _module(file: Origin) -> ModuleType:
    """A file's module, which is run once in a process: an edited file is another module."""
    name = f"ship_plugin_{file.identity.removeprefix('sha256:')[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _Loader(file)
    spec = ModuleSpec(name, loader, origin=loader.get_filename(name))
    spec.has_location = True
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look there while the code runs
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _tables() -> tuple[Registry[Any], Registry[Any], Registry[Any]]:
    from ship.datasets import DATASETS  # it takes Pillow and polars

    return GENERATORS, FINETUNERS, DATASETS
