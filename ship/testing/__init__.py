"""The contract that every generator, fine-tuner and dataset keeps, as checks that anybody can run.

    from ship.testing import check_finetuner
    for finding in check_finetuner("ridge"):
        print(finding)

The project's own methods are tested by these checks, too. `ship-sweep --check NAME` prints them.
"""

from ship.testing.bench import Bench
from ship.testing.checks import check_dataset, check_finetuner, check_generator

__all__ = ["Bench", "check_dataset", "check_finetuner", "check_generator"]
