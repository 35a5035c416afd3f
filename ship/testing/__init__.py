"""Check a generator, fine-tuner, dataset or metric against the requirements that all have to meet.

    from ship.testing import check_finetuner
    for result in check_finetuner("ridge"):
        print(result)

The checks also test the built-in methods. `ship-sweep check METHOD` runs them and prints the
results.
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
