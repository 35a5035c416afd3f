"""What is wanted, what is done, and what is left of a study, with its cost in time.

Answers for: the key of a setting, the plan, what a changed YAML takes out of the table, and what a
run has come to. Writes nothing to the store; fingerprints of backbones are kept in the cache.
"""

from harness.planning.changes import (
    Adoption,
    TableChanges,
    adoption_lines,
    adoptions,
    compare,
    once_adopted,
    refuse_changes,
)
from harness.planning.estimate import estimate_time
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import (
    Plan,
    StudyOutcome,
    Work,
    make_plan,
    study_prunes,
)
from harness.planning.settings import (
    Setting,
    SettingMaker,
    enumerate_settings,
    plugins_text,
)
