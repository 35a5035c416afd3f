"""Plan a study: which configurations it requests, which are left to run, and how long they take.

This package computes configuration keys and the plan, finds finished rows that leave the report
when a study changes, finds reusable results of other studies, and defines the outcome of a run. It
does not write to the store, but caches the fingerprints of backbones in the cache folder.
"""

from harness.planning.changes import StaleRows, find_stale_rows, refuse_changes
from harness.planning.configurations import (
    Configuration,
    ConfigurationMaker,
    enumerate_configurations,
    format_plugins,
)
from harness.planning.division import divide_work, halve
from harness.planning.estimate import estimate_time
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import (
    Plan,
    StudyOutcome,
    Work,
    make_plan,
    prunes_trials,
)
from harness.planning.plan_view import format_state, format_summary_lines
from harness.planning.reuse import ReusedRun, find_reusable_runs, format_reuse, plan_after_reuse
