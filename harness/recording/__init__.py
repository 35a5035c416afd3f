"""Write a study to the store: a run for itself and one for each trial.

Responsible for tags, params, metrics and their times, and the version of the code. harness.store
sends the writes.
"""

from harness.recording.study_run import StudyRun, describe_runs, publish
from harness.recording.trial_runs import TrialRecorder, record_reused
