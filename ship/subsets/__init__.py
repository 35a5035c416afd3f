"""A dataset as labelled features, and the parts of it that a trial studies; numpy alone.

Answers for: which classes a trial has and in which order, which pictures and classes a seed draws,
and what a protocol demands of settings and datasets. It imports no torch: the checks of a YAML ask
it, too.
"""

from ship.subsets.feature_set import FeatureSet, studied_classes
from ship.subsets.requirements import DEMANDS, lacking, require, requirements
from ship.subsets.splits import few_shot_indices, pseudo_new_classes

__all__ = [
    "DEMANDS",
    "FeatureSet",
    "few_shot_indices",
    "lacking",
    "pseudo_new_classes",
    "require",
    "requirements",
    "studied_classes",
]
