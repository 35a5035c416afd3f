"""Settings of the generators and fine-tuners that a YAML may name. Imports no torch.

The settings classes define the keys below `generator` and `finetuner` in a YAML, with their bounds
and help texts; ship.trial_config has the other keys of a trial. Every settings class in the modules
`generators` and `finetuners` is registered, in the order of the file; plugins are added when they
are loaded. The methods themselves are in ship.generators and ship.finetuners.
"""

from collections.abc import Callable
from typing import Annotated, Final

from ship.configs import finetuners, generators
from ship.registry import MetricPlugin, OneOf, Registry
from ship.settings import FinetunerSettings, GeneratorSettings, NamedSettings

GENERATORS: Final[Registry[type[GeneratorSettings]]] = Registry(
    "generator", GeneratorSettings, vars(generators).values()
)
FINETUNERS: Final[Registry[type[FinetunerSettings]]] = Registry(
    "finetuner", FinetunerSettings, vars(finetuners).values()
)

METRICS: Final[Registry[Callable[..., float]]] = Registry("metric", MetricPlugin, ())

GeneratorConfig = Annotated[NamedSettings, OneOf(GENERATORS)]
FinetunerConfig = Annotated[NamedSettings, OneOf(FINETUNERS)]
