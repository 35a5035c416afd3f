"""What a trial costs before it runs: an analytic count of its arithmetic and of its memory.

    tower, data = TowerShape.of_name("pocket"), DataShape.of(features)
    cost = trial_cost(config, n_seeds, tower, data)
    cost.flops, cost.text_tokens, cost.memory.bytes(replicas=10)

It counts what all planned epochs take. A generator's early stopping and a scheduler end some trials
sooner, and the tested model is trained only up to the epoch that selection chose: unless the epochs
that ran are given, a count is an upper bound.
"""

from ship.cost.model import Cost, Memory, UnknownCostError
from ship.cost.shapes import DataShape, TowerShape
from ship.cost.trial import trial_cost

__all__ = ["Cost", "DataShape", "Memory", "TowerShape", "UnknownCostError", "trial_cost"]
