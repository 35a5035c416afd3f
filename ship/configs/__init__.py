"""Registries of the methods that a YAML may name, with their settings. Imports no torch.

The settings classes of generators and fine-tuners define the keys below `generator` and `finetuner`
in a YAML, with bounds and descriptions; all other keys of a trial are in ship.trial_config. Every
settings class of the modules `generators` and `finetuners` is registered, in the order of the file.
Plugins are registered when they are loaded. METRICS contains only plugins. The methods themselves
are in ship.generators and ship.finetuners.
"""

from collections.abc import Callable
from typing import Annotated, Final

from ship.configs import finetuners, generators
from ship.registry import MetricPlugin, Registry, RegistryUnion
from ship.settings import FinetunerSettings, GeneratorSettings, NamedSettings

GENERATORS: Final[Registry[type[GeneratorSettings]]] = Registry(
    "generator", GeneratorSettings, vars(generators).values()
)
FINETUNERS: Final[Registry[type[FinetunerSettings]]] = Registry(
    "finetuner", FinetunerSettings, vars(finetuners).values()
)

METRICS: Final[Registry[Callable[..., float]]] = Registry("metric", MetricPlugin, ())

GeneratorConfig = Annotated[NamedSettings, RegistryUnion(GENERATORS)]
FinetunerConfig = Annotated[NamedSettings, RegistryUnion(FINETUNERS)]
