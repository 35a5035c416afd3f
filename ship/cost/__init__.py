"""What a trial costs before it runs: its arithmetic and its memory, counted on a short form of it.

    clip = BlankCLIP("pocket")
    features = random_features(labels, config, clip.feature_dim)
    counted = count_trial(config, features, {}, clip)
    counted.flops(config, replicas=5)

The trial's own code runs, so that a method has a cost without anybody writing one. Nothing but the
text tower's passes and large products is left uncomputed.
"""

from ship.cost.blank_clip import BlankCLIP
from ship.cost.counter import Counter
from ship.cost.epochs import Rates, shortened
from ship.cost.trial import (
    Counted,
    alike,
    count_memory,
    count_trial,
    random_features,
    random_target,
    retrains,
)

__all__ = [
    "BlankCLIP",
    "Counted",
    "Counter",
    "Rates",
    "alike",
    "count_memory",
    "count_trial",
    "random_features",
    "random_target",
    "retrains",
    "shortened",
]
