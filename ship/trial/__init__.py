"""Run a trial: train a configuration under all of its seeds, select, retrain, and test once.

- `run`: the stages of a trial.
- `selection`: selects each seed's epoch, and tests the models.
- `journal`: records reported metrics, failed seeds and checkpoints.
- `trained`: writes and reads the files of trained models.
- `model`: builds trained models from these files.
"""

from ship.trial.model import TrainedModel, load_trained
from ship.trial.run import run_trial
from ship.trial.trained import TrainedError

__all__ = ["TrainedError", "TrainedModel", "load_trained", "run_trial"]
