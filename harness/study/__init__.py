"""A study from its config to its outcome: planned, its features extracted, its trials run.

Answers for: the order of things, signals, and what is left in the store however a run ends.
This is what the command line calls, and what Python may.
"""

from harness.study.features import prefetch
from harness.study.run import run_study
from harness.study.standing import plan_study, typed_study
