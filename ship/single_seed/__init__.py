"""Methods that are written for one seed: the adapter trains one object for each seed, in turn.

    plugin = FinetunerPlugin(RidgeConfig, single_seed_finetuner(Ridge))

It is slower than code that trains all seeds as one batch, and gives the same numbers.
"""

from ship.single_seed.adapters import single_seed_finetuner, single_seed_generator
from ship.single_seed.contract import SeedFinetuner, SeedGenerator, SeedPart
from ship.single_seed.task import SeedTask, SyntheticSet

__all__ = [
    "SeedFinetuner",
    "SeedGenerator",
    "SeedPart",
    "SeedTask",
    "SyntheticSet",
    "single_seed_finetuner",
    "single_seed_generator",
]
