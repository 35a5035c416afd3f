"""Many seeds trained side by side as replicas along one leading dimension.

Answers for: randomness by seed, layers and optimizers with a replica dimension, and a state that
can be saved and put back to the bit.
"""

from ship.training.replicas import (
    BatchStream,
    ReplicaOptimizer,
    ReplicaRng,
    gather_rows,
    random_views,
    steps_per_epoch,
    stream_of,
)
from ship.training.state import (
    Checkpoint,
    CheckpointError,
    Kept,
    Part,
    State,
    capture,
    copied,
    copies,
    prefixed,
    restore,
    taken,
    under,
)

__all__ = [
    "BatchStream",
    "Checkpoint",
    "CheckpointError",
    "Kept",
    "Part",
    "ReplicaOptimizer",
    "ReplicaRng",
    "State",
    "capture",
    "copied",
    "copies",
    "gather_rows",
    "prefixed",
    "random_views",
    "restore",
    "steps_per_epoch",
    "stream_of",
    "taken",
    "under",
]
