"""The MLflow store, which is the system of record: opened, held, read and written.

Answers for: one driver a study, one ledger row a (setting, seed), and no write that is lost or sent
twice while the store is away. What is written there is harness.recording's.
"""

from harness.store.batches import MAX_TAG, log, log_entities, set_state
from harness.store.cleanup import INTERRUPTED, close_dead_runs
from harness.store.datasets import Dataset
from harness.store.errors import StoreAway, StoreError, store_errors
from harness.store.ledger import Ledger, LedgerRun, read_finished, read_ledger
from harness.store.lock.lease import StudyLost, Timing
from harness.store.open import Store, absolute_uri, default_uri, open_store
from harness.store.outbox.again import again
from harness.store.outbox.client import CLIENT_ENVIRONMENT, waiting_note
from harness.store.params import param_text, params
from harness.store.quiet import quieten
from harness.store.session import own_study
from harness.store.study_run import StoredStudy, find_study_run, read_stored_study
from harness.store.tags import split_tag
from harness.store.trained import load_trained

__all__ = [
    "CLIENT_ENVIRONMENT",
    "INTERRUPTED",
    "MAX_TAG",
    "Dataset",
    "Ledger",
    "LedgerRun",
    "Store",
    "StoreAway",
    "StoreError",
    "StoredStudy",
    "StudyLost",
    "Timing",
    "absolute_uri",
    "again",
    "close_dead_runs",
    "default_uri",
    "find_study_run",
    "load_trained",
    "log",
    "log_entities",
    "open_store",
    "own_study",
    "param_text",
    "params",
    "quieten",
    "read_finished",
    "read_ledger",
    "read_stored_study",
    "set_state",
    "split_tag",
    "store_errors",
    "waiting_note",
]
