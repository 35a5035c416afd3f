"""Plugins: custom generators, fine-tuners, datasets and metrics.

A plugin is a subclass of FinetunerSettings or GeneratorSettings, a DatasetPlugin or a
MetricPlugin. load_plugin registers all plugins of a file or of an importable module.
"""

import hashlib
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
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
    wrap_import_errors,
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

    Loading a file again after an edit replaces its plugins. A module is imported only once per
    process, so later edits have no effect.

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
        origins: Files and modules. In a worker, the result of list_loaded_origins() in the driver.

    Raises:
        PluginError: One of them cannot be loaded (see load_plugin), e.g. because this node lacks a
            package that a file imports.
    """
    for origin in origins:
        if origin.module:
            # this node may have another version of it; require_plugins compares the versions
            local_origin = _get_module_origin(origin.module)
            with wrap_import_errors(local_origin.label):
                module = import_module(origin.module)
        else:
            local_origin = origin
            with wrap_import_errors(local_origin.label):
                module = _import_file(origin)
        entries = _find_entries(module)
        if not entries:
            raise PluginError(
                f"{local_origin.label}: contains no plugin. Define a subclass of GeneratorSettings "
                "or FinetunerSettings, a DatasetPlugin or a MetricPlugin, at its top level"
            )
        by_name: dict[tuple[str, str], Any] = {}
        for registry, plugin in entries:  # check all before adding any
            registry.require_valid(plugin, local_origin)
            name = get_plugin_name(plugin)
            if by_name.setdefault((registry.entry_noun, name), plugin) is not plugin:
                raise PluginError(
                    f"{local_origin.label}: defines two {registry.entry_noun}s named {name}. "
                    "Rename one"
                )
        for registry, plugin in entries:
            registry.add(plugin, local_origin)


def _find_entries(module: ModuleType) -> list[tuple[Registry[Any], Any]]:
    """Return the plugins of a module, valid or not, each with the registry that accepts it.

    Imported classes are skipped; imported plugin instances are kept.
    """
    candidates = [
        value
        for value in vars(module).values()
        if not isinstance(value, type) or _is_inside(value.__module__, module.__name__)
    ]
    return [
        (registry, value)
        for value in candidates
        for registry in _list_registries()
        if registry.accepts(value)
    ]


def list_loaded_origins() -> tuple[Origin, ...]:
    """Return the origins of all plugins loaded in this process, so that workers can load them too.

    An Origin contains the content of a file, but only the name of a module.
    """
    # A plugin file has some kB and is sent as an argument. Ray's py_modules would require a runtime
    # environment: an upload, an agent on each node, and workers that Ray cannot start in advance.
    origins = {origin for registry in _list_registries() for origin in registry.origins.values()}
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
        datasets: Names of the datasets.
        metrics: Names of the metrics.

    Returns:
        Kind and name -> identity, e.g. "finetuner ridge" -> "ship-example 0.1".
    """
    from ship.datasets import DATASETS  # it imports Pillow and polars

    entries: list[tuple[Registry[Any], str]] = [(GENERATORS, generator), (FINETUNERS, finetuner)]
    entries += [(DATASETS, name) for name in datasets]
    entries += [(METRICS, name) for name in metrics]
    origins = {
        f"{registry.entry_noun} {name}": registry.origins.get(name) for registry, name in entries
    }
    return {key: origin.identity for key, origin in origins.items() if origin is not None}


def require_plugins(planned: Mapping[str, str]) -> None:
    """Check that this process has the planned plugins, and import their methods.

    Args:
        planned: Expected identities, as returned by find_plugin_identities() without datasets.

    Raises:
        PluginError: A plugin is not loaded, has another version or file, or cannot be imported.
    """
    registries: dict[str, Registry[Any]] = {
        registry.entry_noun: registry for registry in (GENERATORS, FINETUNERS, METRICS)
    }
    for plugin, identity in planned.items():
        noun, _, name = plugin.partition(" ")
        entry, origin = registries[noun].get(name), registries[noun].origins.get(name)
        if entry is None or origin is None or origin.identity != identity:
            actual = origin.identity if origin else "not loaded"
            raise PluginError(
                f"{plugin}: expected {identity}, got {actual}. Install the same version on all "
                "nodes"
            )
        if noun != METRICS.entry_noun:  # a metric is a function, so it is imported already
            with wrap_import_errors(f"{origin.label}: {plugin}"):
                entry.load_method()


def find_plugin_fault(error: BaseException) -> str | None:
    """Find out whether an error was raised in a plugin's code, or in code that the plugin called.

    Returns:
        One line with the plugin's origin, the error and the last line of the plugin's code in the
        traceback. None if the traceback contains no code of a loaded plugin.
    """
    origins = {
        str(registry[name].__module__).partition(".")[0]: origin
        for registry in _list_registries()
        for name, origin in registry.origins.items()
    }
    fault = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module != "ship" and module in origins:
            location = f"({frame.f_code.co_filename}, line {line})"
            fault = f"{origins[module].label}: raised {format_error(error)} {location}"
    return fault


class _Loader(ExecutionLoader):
    """Loader of a plugin file's content as a module; tracebacks show the lines of the file."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def get_filename(self, fullname: str) -> str:
        return self._origin.label.removeprefix("file ")

    def get_source(self, fullname: str) -> str:
        return decode_source(self._origin.content or b"")


def get_installed_version(package: str) -> str:
    """Return the version of an installed package, or "" if it is not installed."""
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

    The identity is the name and version of the distribution that provides the module. If not
    exactly one distribution provides it, the identity is the SHA-256 digest of the module's file,
    or of all Python files of a package.

    Raises:
        PluginError: The module cannot be imported, or has no Python file.
    """
    label = f"module {name}"
    with wrap_import_errors(label):
        module = import_module(name)
    names = set(packages_distributions().get(name.partition(".")[0], ()))
    if len(names) == 1:  # several distributions may provide parts of a namespace package
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


def _import_file(origin: Origin) -> ModuleType:
    """Import the content of a plugin file as a module, whose name contains the content's digest.

    The same content is executed only once per process.
    """
    name = f"ship_plugin_{origin.identity.removeprefix('sha256:')[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _Loader(origin)
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
