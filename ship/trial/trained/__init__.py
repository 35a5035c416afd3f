"""What a trial has trained, as selection chose it: kept as files, and loaded again.

Answers for: the form of the files, and treating those of others as such. Nothing in them is code.
"""

from ship.trial.trained.keep import learned_by, trained_files
from ship.trial.trained.model import TrainedModel, load_trained
from ship.trial.trained.read import TrainedError

__all__ = [
    "TrainedError",
    "TrainedModel",
    "learned_by",
    "load_trained",
    "trained_files",
]
