"""What a trial trains on: few-shot draws, base and new halves, pseudo-new classes.

Answers for: which picture and class is in which part under which seed, and their features as padded
tensors with a replica dimension.
"""

from ship.tasks.splits import few_shot_indices, pseudo_new_classes
from ship.tasks.task import Pictures, Task, pad_rows

__all__ = ["Pictures", "Task", "few_shot_indices", "pad_rows", "pseudo_new_classes"]
