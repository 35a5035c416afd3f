"""The names under which a study stands in MLflow: the one source for writer and reader.

Answers for: tags, states, metric keys, protocols with their columns, and the masking of secrets.
Imports nothing of the project, and nothing heavy.
"""

from reports.contract.address import SQLITE, options_fault
from reports.contract.errors import EmptyStudyError, ReportError
from reports.contract.metrics import (
    FLAG,
    FLAGS,
    OBJECTIVE,
    QUALITY,
    TARGET,
    Cost,
    seed_metric,
    split_seed,
)
from reports.contract.protocols import ARMS, DEFAULT_PROTOCOL, PROTOCOLS, Protocol
from reports.contract.redact import redacted
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
from reports.contract.tags import FINGERPRINTS, LONG_TAGS, Tag

__all__ = [
    "ARMS",
    "COMPLETE",
    "DEFAULT_PROTOCOL",
    "FAIL",
    "FINGERPRINTS",
    "FLAG",
    "FLAGS",
    "LONG_TAGS",
    "MISSING",
    "OBJECTIVE",
    "PROTOCOLS",
    "PRUNED",
    "QUALITY",
    "RUN_STATUS",
    "SQLITE",
    "TARGET",
    "Cost",
    "EmptyStudyError",
    "Failure",
    "Kind",
    "Protocol",
    "ReportError",
    "State",
    "Tag",
    "options_fault",
    "redacted",
    "seed_metric",
    "split_seed",
]
