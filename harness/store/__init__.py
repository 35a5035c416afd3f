"""The MLflow store, which is the system of record: opened, held, read and written.

Answers for: one driver a study, one ledger row a (setting, seed), and no write that is lost or sent
twice while the store is away. What is written there is harness.recording's.
"""

from harness.store.changes import (
    MAX_TAG,
    MOST_BYTES,
    Changes,
    Dataset,
    Point,
    new_run,
    now,
    plain,
    points,
)
from harness.store.errors import StoreAway, StoreError, again
from harness.store.known import Known, epoch_points, experiments, kept_files, read_known
from harness.store.lease import StudyLost, Timing
from harness.store.ledger import Ledger, LedgerRun, read_ledger
from harness.store.open import Store, find_store, open_store, quieten, store_uri
from harness.store.pending import waiting_note
from harness.store.session import own_study
from harness.store.study_run import (
    INTERRUPTED,
    StoredStudy,
    close_dead_runs,
    find_study_run,
    read_stored_study,
)
from harness.store.study_store import CLIENT_ENVIRONMENT, StudyStore
from harness.store.texts import joined_tag, param_text, params, split_tag
from harness.store.trained import SAID, load_trained
