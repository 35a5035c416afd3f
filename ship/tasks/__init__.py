"""What a trial trains on: features as padded tensors with a replica dimension.

Which picture and class is in which part under which seed, ship.subsets says.
"""

from ship.tasks.seed import FixedRows, SeedTask
from ship.tasks.task import Pictures, Task, pad_rows

__all__ = ["FixedRows", "Pictures", "SeedTask", "Task", "pad_rows"]
