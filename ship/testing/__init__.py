"""Check that a generator, fine-tuner, dataset or metric meets all requirements on plugins.

    from ship.testing import check_finetuner
    for result in check_finetuner("ridge"):
        print(result)

`ship-sweep check NAME` runs the same checks and prints the results. Built-in methods are tested
with them, too.
"""

from ship.testing.bench import Bench, CheckResult
from ship.testing.checks import check_dataset, check_finetuner, check_generator, check_metric

__all__ = [
    "Bench",
    "CheckResult",
    "check_dataset",
    "check_finetuner",
    "check_generator",
    "check_metric",
]
