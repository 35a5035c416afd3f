"""One setting, trained for all of its seeds: selected, retrained, tested once.

Answers for: the stages of a trial, the choice of its epoch, the judgement of its synthetic
features, going on after a stop as if there had been none, and what was trained, kept and loaded.
"""

from ship.trial.ages import planned_ages
from ship.trial.judge import FEWEST, MOST, MOST_IN_ALL
from ship.trial.run import run_trial
from ship.trial.trained import TrainedError, TrainedModel, load_trained

__all__ = [
    "FEWEST",
    "MOST",
    "MOST_IN_ALL",
    "TrainedError",
    "TrainedModel",
    "load_trained",
    "planned_ages",
    "run_trial",
]
