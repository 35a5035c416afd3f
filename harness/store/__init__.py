"""The MLflow store, which is the system of record: opened, held, read and written.

Answers for: one driver a study, one ledger row a (setting, seed), and no write that is lost or sent
twice while the store is away. What is written there is harness.recording's.
"""

from harness.store.changes import (
    INTERRUPTED,
    MAX_TAG,
    MOST_BYTES,
    Changes,
    Point,
    now,
    param_text,
    params,
    plain,
    points,
    split_tag,
)
from harness.store.errors import StoreAway, StoreError, again
from harness.store.lease import StudyLost, Timing
from harness.store.ledger import (
    Ledger,
    LedgerRun,
    StoredStudy,
    find_study_run,
    read_known,
    read_ledger,
    read_stored_study,
)
from harness.store.open import Store, find_store, open_store, quieten, store_uri
from harness.store.study_store import StudyStore, own_study
from harness.store.trained import SAID, keeps_trained, kept_files, load_trained
