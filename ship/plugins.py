"""Plugins: custom generators, fine-tuners, datasets and metrics.

A plugin is a subclass of FinetunerSettings or GeneratorSettings, a DatasetPlugin or a
MetricPlugin. load_plugin registers all plugins of a file or of an importable module.
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

from ship.configs import FINETUNERS, GENERATORS, METRICS
from ship.registry import (
    DatasetPlugin,
    MetricPlugin,
    Origin,
    PluginError,
    Registry,
    format_error,
    get_plugin_name,
    import_plugin,
)
from ship.settings import FinetunerSettings, GeneratorSettings
from ship.whole_file import read_whole

__all__ = [
    "DatasetPlugin",
    "FinetunerSettings",
    "GeneratorSettings",
    "MetricPlugin",
    "PluginError",
    "load_plugin",
]

MAX_BYTES: Final = 1 << 20
"""Maximum size of a plugin file, whose content is sent to every worker."""
_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def load_plugin(path: Path | str) -> None:
    """Register the plugins of a file or a module in this process.

    An edited file is read again. A module is imported once per process.

    Args:
        path: Path of a Python file, or dotted name of a module, e.g. "ship_example".

    Raises:
        PluginError: The file or module cannot be read or imported, contains no plugin, or contains
            one whose name is already used.
    """
    if _is_module(path):
        load_origins([_get_module_origin(str(path))])
        return
    try:
        content = read_whole(Path(path), MAX_BYTES)
    except ValueError as error:
        raise PluginError(f"file {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    load_origins([Origin(f"file {path}", f"sha256:{digest}", content)])


def load_origins(origins: Iterable[Origin]) -> None:
    """Register the plugins of files and modules in this process.

    Args:
        origins: Files and modules. A worker gets those that the driver has loaded (see
            list_loaded_origins).

    Raises:
        PluginError: One of them cannot be loaded (see load_plugin), e.g. because this node lacks a
            package that a file imports.
    """
    for sent_origin in origins:
        # this node may have another version of a module; require_plugins compares them
        origin = _get_module_origin(sent_origin.module) if sent_origin.module else sent_origin
        load = (
            partial(import_module, sent_origin.module)
            if sent_origin.module
            else partial(_execute_file, sent_origin)
        )
        module = import_plugin(load, origin.label)
        # imported classes, such as base classes, are skipped; imported plugin instances are kept
        defined = [
            value
            for value in vars(module).values()
            if not isinstance(value, type) or _is_inside(value.__module__, module.__name__)
        ]
        entries = [
            (table, value)
            for value in defined
            for table in _list_registries()
            if table.accepts(value)
        ]
        if not entries:
            raise PluginError(
                f"{origin.label}: contains no plugin. Define a subclass of GeneratorSettings or "
                "FinetunerSettings, a DatasetPlugin or a MetricPlugin, at its top level"
            )
        by_name: dict[tuple[str, str], Any] = {}
        for table, plugin in entries:  # check all before adding any
            table.require_valid(plugin, origin)
            noun_and_name = table.noun, get_plugin_name(plugin)
            if by_name.setdefault(noun_and_name, plugin) is not plugin:
                raise PluginError(
                    f"{origin.label}: two plugins define {' '.join(noun_and_name)}. Rename one"
                )
        for table, plugin in entries:
            table.add(plugin, origin)


def list_loaded_origins() -> tuple[Origin, ...]:
    """Return the origins of all plugins loaded in this process, so that workers can load them, too.

    A worker gets the content of a file (some kB) with its other arguments, and imports it under a
    name made of its hash. It imports a module by its name.
    """
    # Ray's py_modules would require a runtime environment: an upload, an agent on each node, and
    # workers that Ray cannot start in advance.
    origins = {origin for table in _list_registries() for origin in table.origins.values()}
    return tuple(sorted(origins, key=lambda origin: origin.label))


def find_plugin_identities(
    generator: str,
    finetuner: str,
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> dict[str, str]:
    """Return the identities of the plugins that a configuration uses, without the built-ins.

    Args:
        generator: Name of the generator.
        finetuner: Name of the fine-tuner.
        datasets: Names of the datasets for training and testing. To compare the result with
            require_plugins, leave them out.
        metrics: Names of the metrics.

    Returns:
        Kind and name -> identity, e.g. "finetuner ridge" -> "ship-example 0.1".
    """
    entries: list[tuple[Registry[Any], str]] = [(GENERATORS, generator), (FINETUNERS, finetuner)]
    entries += [(_list_registries()[2], name) for name in datasets]
    entries += [(METRICS, name) for name in metrics]
    origins = {f"{table.noun} {name}": table.origins.get(name) for table, name in entries}
    return {key: origin.identity for key, origin in origins.items() if origin is not None}


def require_plugins(planned: Mapping[str, str]) -> None:
    """Check that this process has the planned plugins, and import their methods.

    Args:
        planned: Expected identities, as returned by find_plugin_identities without datasets.

    Raises:
        PluginError: A plugin is not loaded, has another version or file, or cannot be imported.
    """
    registries: dict[str, Registry[Any]] = {
        registry.noun: registry for registry in (GENERATORS, FINETUNERS, METRICS)
    }
    for plugin, identity in planned.items():
        noun, _, name = plugin.partition(" ")
        entry, origin = registries[noun].get(name), registries[noun].origins.get(name)
        if entry is None or origin is None or origin.identity != identity:
            actual = origin.identity if origin else "not loaded"
            raise PluginError(
                f"{plugin}: expected {identity}, got {actual}. Install the same version on "
                "all nodes"
            )
        if noun != METRICS.noun:  # a metric is a function, so it is imported already
            import_plugin(entry.load_method, f"{origin.label}: {plugin}")


def find_plugin_fault(error: BaseException) -> str | None:
    """Return a line that names the plugin that raised an error, the error and its location.

    Returns:
        The line, or None if the traceback contains no code of a loaded plugin.
    """
    origins = {
        str(entry.__module__).partition(".")[0]: origin
        for table in _list_registries()
        for name, origin in table.origins.items()
        for entry in [table[name]]
    }
    fault = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module != "ship" and module in origins:
            location = f"({frame.f_code.co_filename}, line {line})"
            fault = f"{origins[module].label}: raised {format_error(error)} {location}"
    return fault


class _Loader(ExecutionLoader):
    """Loader of a module from bytes; tracebacks show the lines of the original file."""

    def __init__(self, file: Origin) -> None:
        self._file = file

    def get_filename(self, fullname: str) -> str:
        return self._file.label.removeprefix("file ")

    def get_source(self, fullname: str) -> str:
        return decode_source(self._file.content or b"")


def get_installed_version(package: str) -> str:
    """Return the version of an installed package, or "" if it is absent."""
    return next((distribution.version for distribution in distributions(name=package)), "")


def _is_module(name: Path | str) -> bool:
    """Return True if the text is the dotted name of a module, not the path of a file."""
    text = str(name)
    is_file = text.endswith(".py") or Path(name).is_file()
    return not is_file and _MODULE.fullmatch(text) is not None


def _is_inside(name: str, module: str) -> bool:
    """Return True if module `name` is `module` itself or one of its submodules."""
    return name == module or name.startswith(f"{module}.")


@cache  # listing the installed distributions is slow, and a module is imported only once
def _get_module_origin(name: str) -> Origin:
    """Import a module and return its origin.

    The identity is the version of the module's distribution if there is one, otherwise the SHA-256
    of its file, or of all Python files of a package.

    Raises:
        PluginError: The module cannot be imported, or has no Python file.
    """
    label = f"module {name}"
    module = import_plugin(partial(import_module, name), label)
    names = set(packages_distributions().get(name.partition(".")[0], ()))
    if len(names) == 1:  # a namespace package may come from several
        (distribution,) = names
        return Origin(label, f"{distribution} {version(distribution)}", module=name)
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    files = [(folder, file) for folder in folders for file in sorted(folder.rglob("*.py"))]
    if not folders and getattr(module, "__file__", None):
        files = [(Path(str(module.__file__)).parent, Path(str(module.__file__)))]
    if not files:
        raise PluginError(f"{label} has no Python file to identify it by. Name another module")
    digest = hashlib.sha256()
    for folder, file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return Origin(label, f"sha256:{digest.hexdigest()}", module=name)


def _execute_file(file: Origin) -> ModuleType:
    """Return the module of a file, executed once per process. An edited file is a new module."""
    name = f"ship_plugin_{file.identity.removeprefix('sha256:')[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _Loader(file)
    spec = ModuleSpec(name, loader, origin=loader.get_filename(name))
    spec.has_location = True
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look it up while the code runs
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _list_registries() -> tuple[Registry[Any], ...]:
    from ship.datasets import DATASETS  # it imports Pillow and polars

    return GENERATORS, FINETUNERS, DATASETS, METRICS
