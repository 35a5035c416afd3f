"""Generators, fine-tuners and datasets of one's own: what a plugin is made of, and files of them.

    from ship.plugins import FinetunerSettings

    class RidgeConfig(FinetunerSettings):
        method = "ship_example.ridge:Ridge"
        name: Literal["ridge"] = "ridge"
        l2: float = Field(1.0, gt=0, description="weight of the penalty")

A package names such objects as entry points of the groups ship_sweep.generators,
ship_sweep.finetuners and ship_sweep.datasets; a single file is loaded by load_plugin.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ship.configs import FINETUNERS, GENERATORS
from ship.registry import (
    DatasetPlugin,
    PluginError,
    PluginFile,
    Registry,
    imported,
    read_plugin_file,
)
from ship.settings import FinetunerSettings, GeneratorSettings

__all__ = [
    "DatasetPlugin",
    "FinetunerSettings",
    "GeneratorSettings",
    "PluginError",
    "PluginFile",
    "carried",
    "identities",
    "load_carried",
    "load_plugin",
    "require_builders",
]


def load_plugin(path: Path | str) -> None:
    """Let the plugins of a file join this process's tables; a file that was edited is read anew.

    Raises:
        PluginError: it cannot be read or imported, has no plugin, or one of another's name.
    """
    _load(read_plugin_file(path))


def load_carried(files: Iterable[PluginFile]) -> None:
    """Load on a worker what its driver has loaded (carried).

    Raises:
        PluginError: as load_plugin, say where this node lacks a package that a file imports.
    """
    for file in files:
        _load(file)


def carried() -> tuple[PluginFile, ...]:
    """The files whose plugins this process knows: its workers need them.

    Their content goes along with what a worker is given anyway, some kB, and is imported there
    under a name made of its hash. Ray's py_modules would take a runtime environment: an upload, an
    agent on each node, and workers that Ray cannot start ahead.
    """
    origins = {origin for table in _tables() for origin in table.origins.values()}
    return tuple(
        PluginFile(origin.said.removeprefix("file "), origin.content)
        for origin in sorted(origins, key=lambda origin: origin.said)
        if origin.content is not None
    )


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
    if datasets:
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
        entry, origin = tables[noun].find(name), tables[noun].origin(name)
        if entry is None or origin is None or origin.identity != identity:
            found = origin.identity if origin else "not installed"
            raise PluginError(f"{plugin} is {found}, and was planned as {identity}")
        imported(entry.load_method, f"{origin.said}: {plugin}")


def _load(file: PluginFile) -> None:
    origin = file.origin
    module = imported(file.module, origin.said)
    # what it only imports, such as settings that its own are derived from, is not its plugin
    own = {
        id(one): one
        for one in vars(module).values()
        if not isinstance(one, type) or one.__module__ == module.__name__
    }
    placed = [(table, one) for one in own.values() for table in _tables() if table.takes(one)]
    if not placed:
        raise PluginError(
            f"{origin.said}: has no plugin at its top level (a class of GeneratorSettings or "
            f"FinetunerSettings, or a DatasetPlugin)"
        )
    for table, plugin in placed:  # all of them, or none
        table.refuse(plugin, origin)
    for table, plugin in placed:
        table.add(plugin, origin)


def _tables() -> tuple[Registry[Any], Registry[Any], Registry[Any]]:
    from ship.datasets import DATASETS  # it takes Pillow and polars

    return GENERATORS, FINETUNERS, DATASETS
