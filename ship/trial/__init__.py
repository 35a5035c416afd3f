"""One trial: a configuration trained for all of its seeds, selected, retrained and tested once.

- `run`: the stages of a trial.
- `selection`: the choice of the epoch and the test.
- `journal`: reported metrics, failed seeds and checkpoints.
- `trained` and `model`: saving trained models and loading them.
"""

from ship.trial.model import TrainedModel, load_trained
from ship.trial.run import run_trial
from ship.trial.trained import TrainedError

__all__ = ["TrainedError", "TrainedModel", "load_trained", "run_trial"]
