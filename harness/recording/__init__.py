"""What a study writes to the store: a run for itself and one for each trial.

Answers for: tags, params, metrics and their times, and where the code came from.
How writes reach the store is harness.store's.
"""

from harness.recording.study_run import StudyRun, publish
from harness.recording.trial_runs import TrialRecorder, adopt
