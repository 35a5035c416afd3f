"""The names under which a study stands in MLflow: the one source for writer and reader.

Answers for: tags, states, metric keys, the file of right answers, protocols with their columns, the
masking of secrets, and of characters that a terminal obeys.
Imports nothing of the project, and nothing heavy.
"""

from reports.contract.names import (
    ADDED_BY_PATH,
    CLASS,
    CLASS_ID,
    COMPLETE,
    EXAM,
    FAIL,
    FINGERPRINTS,
    FLAG,
    FLAGS,
    HEADLINE,
    HITS,
    LOAD,
    LONG_TAGS,
    MISSING,
    OBJECTIVE,
    PRUNED,
    QUALITY,
    RUN_STATUS,
    SEEN,
    TARGET,
    TRAINED,
    Cost,
    Failure,
    Kind,
    State,
    Tag,
    curve_metric,
    hit_column,
    interval_metrics,
    seed_metric,
    split_hit,
    split_seed,
    trained_file,
)
from reports.contract.protocols import ARMS, DEFAULT_PROTOCOL, PROTOCOLS, RIVALS, Protocol
from reports.contract.publication import REPORT, Publication
from reports.contract.words import (
    SERVED,
    SQLITE,
    EmptyStudyError,
    ReportError,
    address_fault,
    collect_rarely,
    is_text,
    printable,
    printable_lines,
    reader_may_leave,
    redacted,
    steady_output,
    store_key,
)
