"""Tables of what a YAML names: built-ins, and the plugins that join them; without torch.

Answers for: finding a name, loading the plugin behind it when it is first asked for, refusing a
name twice, and telling a plugin's version. The tables themselves stand beside what they list
(ship.configs, ship.datasets); what plugins are made of, ship.plugins hands on.
"""

from ship.registry.files import PluginFile, read_plugin_file
from ship.registry.one_of import OneOf
from ship.registry.plugin import (
    DatasetPlugin,
    Origin,
    Plugin,
    PluginError,
    name_of,
)
from ship.registry.table import Registry, imported

__all__ = [
    "DatasetPlugin",
    "OneOf",
    "Origin",
    "Plugin",
    "PluginError",
    "PluginFile",
    "Registry",
    "imported",
    "name_of",
    "read_plugin_file",
]
