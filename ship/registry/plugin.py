"""What a plugin is, and where it comes from."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from ship.settings import NamedSettings


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


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from.

    said: in messages: "package ship-example" or "file my_method.py".
    identity: what the code is, in keys and tags: "ship-example 0.1" or "sha256:" and 64 digits.
    content: of a file; None for a package, which is to be installed wherever it is needed.
    """

    said: str
    identity: str
    content: bytes | None = None


def name_of(plugin: Plugin) -> str:
    """What a YAML says, "" where settings have no name."""
    if isinstance(plugin, DatasetPlugin):
        return plugin.name
    name = plugin.model_fields["name"].default
    return name if isinstance(name, str) else ""
