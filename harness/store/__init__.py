"""Read and write the MLflow store, which is the system of record of all studies.

Responsible for the names of tags and metrics, the records of studies and trials, the choice of the
run that counts for a seed, the limit of one driver per study, and writes that are neither lost nor
duplicated if the store does not answer. `harness.recording` decides what a study writes. This
package imports neither torch nor Ray.
"""

from harness.store.address import find_address_fault, get_default_tracking_uri
from harness.store.artifacts import (
    MAX_FAILED_REQUESTS,
    MODEL_SUFFIX,
    TRAINED_MANIFEST,
    RunFiles,
    fetch_artifacts,
    has_trained_models,
    read_run_files,
)
from harness.store.controls import (
    COMPETING,
    CONTROLS,
    FINETUNER_ALONE,
    control_levels,
    make_level_id,
)
from harness.store.errors import StoreError, StoreUnavailable, retry_requests
from harness.store.history import (
    RunHistory,
    RunRecord,
    find_missing_metrics,
    find_study_run,
    is_finished,
    make_run_record,
    read_history,
    read_runs_of_other_studies,
    replaces,
)
from harness.store.lease import StudyLost, Timing
from harness.store.models import list_model
from harness.store.open import (
    Store,
    open_existing_store,
    open_store,
    resolve_store_uri,
    set_log_level,
)
from harness.store.protocols import DEFAULT_PROTOCOL, PROTOCOLS, SEPARATE_FACTORS, ProtocolMetrics
from harness.store.run_update import (
    INTERRUPTED,
    MAX_BYTES,
    MAX_TAG,
    Point,
    RunUpdate,
    escape_text,
    format_param,
    get_time_ms,
    list_params,
    make_points,
    split_tag,
)
from harness.store.runs import (
    ML_VIEW,
    Run,
    get_run_address,
    get_runs_address,
    list_study_names,
    read_runs,
    refresh_study_run,
    require_store,
    silence_client,
)
from harness.store.schema import (
    CLASS,
    CLASS_ID,
    COMPLETE,
    CORRECT_FILE,
    CUSTOM,
    EVAL_SET,
    FAIL,
    FLAG,
    FLAGS,
    HEADLINE,
    LOAD,
    LONG_TAGS,
    MAX_METRIC_VALUE,
    MISSING,
    OBJECTIVE,
    PRUNED,
    QUALITY,
    REPORT,
    SEEDS_CSV,
    SEEN,
    TARGET,
    TRAINED,
    Cost,
    Failure,
    Kind,
    Publication,
    State,
    Tag,
    join_tag,
    make_interval_metrics,
    name_curve_metric,
    name_seed_metric,
    name_stage_metric,
    name_trained_file,
    split_curve,
    split_seed,
)
from harness.store.seeds_csv import (
    format_seeds_csv,
    is_logged,
    list_logged_names,
    merge_seeds_csv,
    parse_seeds_csv,
)
from harness.store.study_record import (
    ConfigurationRecord,
    FactorRecord,
    StudyRecord,
    make_planned_tags,
)
from harness.store.study_store import STORE_TIMEOUT, StudyStore, open_and_lock_study
