"""Checks of the requirements that every generator, fine-tuner and dataset has to meet.

    from ship.testing import check_finetuner
    for finding in check_finetuner("ridge"):
        print(finding)

The checks also test the built-in methods. `ship-sweep check NAME` runs them and prints the
results.
"""

from ship.testing.bench import Bench
from ship.testing.checks import check_dataset, check_finetuner, check_generator

__all__ = ["Bench", "check_dataset", "check_finetuner", "check_generator"]
