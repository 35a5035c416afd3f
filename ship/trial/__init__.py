"""One setting, trained for all of its seeds: selected, retrained, tested once.

Answers for: the stages of a trial, the choice of its epoch, the judgement of its synthetic
features, going on after a stop as if there had been none, and what was trained, kept and loaded.
"""

from ship.trial.model import TrainedModel, load_trained
from ship.trial.run import run_trial
from ship.trial.trained import TrainedError

__all__ = ["TrainedError", "TrainedModel", "load_trained", "run_trial"]
