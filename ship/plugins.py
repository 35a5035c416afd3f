"""Generators, fine-tuners and datasets of one's own: what a plugin is made of, and files of them.

    from ship.plugins import FinetunerSettings

    class RidgeConfig(FinetunerSettings):
        method = "ship_example.methods:Ridge"
        name: Literal["ridge"] = "ridge"
        l2: float = Field(1.0, gt=0, description="weight of the penalty")

A package names such objects as entry points of the groups ship_sweep.generators,
ship_sweep.finetuners and ship_sweep.datasets; a single file is loaded by load_plugin.
"""

import hashlib
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib.abc import ExecutionLoader
from importlib.machinery import ModuleSpec
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


def load_plugin(path: Path | str) -> None:
    """Let the plugins of a file join this process's tables; a file that was edited is read anew.

    Raises:
        PluginError: it cannot be read or imported, has no plugin, or one of another's name.
    """
    try:
        content = read_whole(Path(path), MOST_BYTES)
    except ValueError as error:
        raise PluginError(f"file {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    load_carried([Origin(f"file {path}", f"sha256:{digest}", content)])


def load_carried(files: Iterable[Origin]) -> None:
    """Load on a worker what its driver has loaded (carried).

    Raises:
        PluginError: as load_plugin, say where this node lacks a package that a file imports.
    """
    for origin in files:
        module = imported(partial(_module, origin), origin.said)
        # what it only imports, such as settings that its own are derived from, is not its plugin
        own = [
            one
            for one in vars(module).values()
            if not isinstance(one, type) or one.__module__ == module.__name__
        ]
        placed = [(table, one) for one in own for table in _tables() if table.takes(one)]
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
    """The files whose plugins this process knows: its workers need them.

    Their content goes along with what a worker is given anyway, some kB, and is imported there
    under a name made of its hash. Ray's py_modules would take a runtime environment: an upload, an
    agent on each node, and workers that Ray cannot start ahead.
    """
    origins = {origin for table in _tables() for origin in table.origins.values()}
    files = (origin for origin in origins if origin.content is not None)
    return tuple(sorted(files, key=lambda origin: origin.said))


def identities(generator: str, finetuner: str, datasets: Sequence[str] = ()) -> dict[str, str]:
    """The plugins among what a setting names: "finetuner ridge" -> "ship-example 0.1".

    {} for a setting of built-ins alone.

    Args:
        generator, finetuner: their names.
        datasets: that it trains on and is tested on.

    Raises:
        PluginError: one of them cannot be loaded.
    """
    named: list[tuple[Registry[Any], str]] = [(GENERATORS, generator), (FINETUNERS, finetuner)]
    named += [(_tables()[2], name) for name in datasets]
    found = {f"{table.noun} {name}": table.origin(name) for table, name in named}
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
        entry, origin = tables[noun].get(name), tables[noun].origin(name)
        if entry is None or origin is None or origin.identity != identity:
            found = origin.identity if origin else "not installed"
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
