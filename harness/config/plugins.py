"""Plugins that a study uses: files that are given beside it, and packages that its YAML names."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.wording import printable
from ship.configs import FINETUNERS, GENERATORS
from ship.plugins import PluginError, load_plugin
from ship.registry import Registry

_TABLES: Mapping[str, Registry[Any]] = {"generator": GENERATORS, "finetuner": FINETUNERS}


def load_plugins(files: Sequence[Path | str]) -> None:
    """Let the plugins of files join what a YAML may name, for as long as the process lasts.

    Raises:
        ConfigError: a line for each file that cannot be used.
    """
    lines = []
    for file in files:
        try:
            load_plugin(file)
        except PluginError as error:
            lines.append(f"--plugin: {printable(str(error))}")
    if lines:
        raise ConfigError(lines)


def load_named(tree: Mapping[str, Any]) -> None:
    """Load the generators and fine-tuners of installed packages that a study names.

    It goes before the checks, which must know the settings of a plugin. One that cannot be loaded
    is left for them: they say where the YAML names it.

    Args:
        tree: the study as its YAML has it; may be faulty.
    """
    for group, table in _TABLES.items():
        for name in _named(tree, group):
            with suppress(PluginError):
                table.get(name)


def _named(tree: Mapping[str, Any], group: str) -> Iterator[str]:
    """Names that a YAML has for a group: its constant's, a factor's and its variants'."""
    space, variants = _mapping(tree.get("space")), _mapping(tree.get("variants"))
    factor = space.get(group)
    levels = factor.get("choices") if isinstance(factor, dict) else factor
    found = [tree.get(group), *_mapping(variants.get(group))]
    found += levels if isinstance(levels, list | tuple) else []
    found += [_mapping(own).get(group) for own in _mapping(variants.get("dataset")).values()]
    for value in found:
        name = value.get("name") if isinstance(value, dict) else value
        if isinstance(name, str):
            yield name


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}
