"""One setting, trained for all of its seeds: selected, retrained, tested once.

Answers for: the stages of a trial, the choice of its epoch, the judgement of its synthetic
features, and going on after a stop as if there had been none.
"""

from ship.trial.judge import FEWEST, MOST, MOST_IN_ALL
from ship.trial.run import run_trial

__all__ = ["FEWEST", "MOST", "MOST_IN_ALL", "run_trial"]
