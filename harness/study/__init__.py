"""A study from its config to its outcome: planned, its features extracted, its trials run.

Answers for: the order of things, signals, and what is left in the store however a run ends.
This is what the command line calls, and what Python may.
"""

from harness.study.features import fetch_features, levels_of, named_datasets
from harness.study.preview import plan_study
from harness.study.run import run_study

__all__ = ["fetch_features", "levels_of", "named_datasets", "plan_study", "run_study"]
