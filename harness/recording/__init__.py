"""Write a study to the store: one MLflow run for the study, and one for each trial.

Responsible for the tags, params, metrics and files of the runs, including the versions of the code,
the data and the weights. harness.store sends the writes.
"""

from harness.recording.study_run import ParentRun, publish_report, write_differences
from harness.recording.trial_runs import TrialRecorder, record_reused
