"""The generators and the fine-tuners that a YAML may name: their settings, by name, without torch.

Answers for: the keys of a YAML below a trial's own (ship.trial_config), their bounds and what they
mean. Whatever class of settings stands in `generators` or `finetuners` is in its table, in the
order of the file; plugins join. What is configured stands in the package of the same name.
"""

from typing import Annotated, Final

from ship.configs import finetuners, generators
from ship.registry import OneOf, Registry
from ship.settings import FinetunerSettings, GeneratorSettings, NamedSettings

GENERATORS: Final[Registry[type[GeneratorSettings]]] = Registry(
    "generator", GeneratorSettings, vars(generators).values()
)
FINETUNERS: Final[Registry[type[FinetunerSettings]]] = Registry(
    "finetuner", FinetunerSettings, vars(finetuners).values()
)

GeneratorConfig = Annotated[NamedSettings, OneOf(GENERATORS)]
FinetunerConfig = Annotated[NamedSettings, OneOf(FINETUNERS)]
