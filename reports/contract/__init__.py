"""The names under which a study stands in MLflow: the one source for writer and reader.

Answers for: tags, states, metric keys, the file of right answers, protocols with their columns, the
masking of secrets, and of characters that a terminal obeys.
Imports nothing of the project, and nothing heavy.
"""

from reports.contract.address import SQLITE, address_fault
from reports.contract.errors import EmptyStudyError, ReportError
from reports.contract.hits import (
    CLASS,
    CLASS_ID,
    EXAM,
    HITS,
    SEEN,
    TRAINED,
    hit_column,
    split_hit,
    trained_file,
)
from reports.contract.metrics import (
    FLAG,
    FLAGS,
    HEADLINE,
    OBJECTIVE,
    QUALITY,
    TARGET,
    Cost,
    curve_metric,
    interval_metrics,
    seed_metric,
    split_seed,
)
from reports.contract.protocols import ARMS, DEFAULT_PROTOCOL, PROTOCOLS, Protocol
from reports.contract.publication import REPORT, Publication
from reports.contract.redact import redacted, store_key
from reports.contract.states import (
    COMPLETE,
    FAIL,
    MISSING,
    PRUNED,
    RUN_STATUS,
    Failure,
    Kind,
    State,
)
from reports.contract.tags import ADDED_BY_PATH, FINGERPRINTS, LONG_TAGS, Tag
from reports.contract.text import (
    is_text,
    printable,
    printable_lines,
    reader_may_leave,
    steady_output,
)

__all__ = [
    "ADDED_BY_PATH",
    "ARMS",
    "CLASS",
    "CLASS_ID",
    "COMPLETE",
    "DEFAULT_PROTOCOL",
    "EXAM",
    "FAIL",
    "FINGERPRINTS",
    "FLAG",
    "FLAGS",
    "HEADLINE",
    "HITS",
    "LONG_TAGS",
    "MISSING",
    "OBJECTIVE",
    "PROTOCOLS",
    "PRUNED",
    "QUALITY",
    "REPORT",
    "RUN_STATUS",
    "SEEN",
    "SQLITE",
    "TARGET",
    "TRAINED",
    "Cost",
    "EmptyStudyError",
    "Failure",
    "Kind",
    "Protocol",
    "Publication",
    "ReportError",
    "State",
    "Tag",
    "address_fault",
    "curve_metric",
    "hit_column",
    "interval_metrics",
    "is_text",
    "printable",
    "printable_lines",
    "reader_may_leave",
    "redacted",
    "seed_metric",
    "split_hit",
    "split_seed",
    "steady_output",
    "store_key",
    "trained_file",
]
