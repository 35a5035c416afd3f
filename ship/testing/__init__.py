"""The contract that every generator, fine-tuner and dataset keeps, as checks that anybody can run.

    from ship.testing import check_finetuner
    for finding in check_finetuner("ridge"):
        print(finding)

The project's own methods are tested by these checks, too. `ship-sweep --check NAME` prints them.
"""

from ship.testing.bench import Bench, packaged_bench
from ship.testing.datasets import check_dataset
from ship.testing.finding import Finding
from ship.testing.finetuners import FINETUNER_CHECKS, check_finetuner
from ship.testing.generators import GENERATOR_CHECKS, check_generator

__all__ = [
    "FINETUNER_CHECKS",
    "GENERATOR_CHECKS",
    "Bench",
    "Finding",
    "check_dataset",
    "check_finetuner",
    "check_generator",
    "packaged_bench",
]
