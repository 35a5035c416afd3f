"""Plan a study, extract its features and run its trials.

Responsible for the order of these steps, for signals, and for a consistent store however a run
ends. The Python API and the command line call these functions.
"""

from harness.study.features import prefetch_features
from harness.study.run import run_study
from harness.study.state import load_plugins_and_study, plan_study
