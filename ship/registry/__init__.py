"""Tables of what a YAML names: built-ins, and the plugins that join them; without torch.

Answers for: finding a name, loading the plugin behind it when it is first asked for, refusing a
name twice, and telling a plugin's version. The tables themselves stand beside what they list
(ship.configs, ship.datasets); what plugins are made of, ship.plugins hands on.
"""

from ship.registry.files import PluginFile, read_plugin_file
from ship.registry.one_of import OneOf
from ship.registry.plugin import (
    DatasetPlugin,
    Deferred,
    FinetunerPlugin,
    GeneratorPlugin,
    Origin,
    Plugin,
    PluginError,
)
from ship.registry.table import Registry, imported

__all__ = [
    "DatasetPlugin",
    "Deferred",
    "FinetunerPlugin",
    "GeneratorPlugin",
    "OneOf",
    "Origin",
    "Plugin",
    "PluginError",
    "PluginFile",
    "Registry",
    "imported",
    "read_plugin_file",
]
