"""The names under which a study stands in MLflow: the one source for writer and reader.

Answers for: tags, states, metric keys, protocols with their columns, and the masking of secrets.
Imports nothing of the project.
"""

from reports.contract.address import options_fault
from reports.contract.names import TAG_FRESH_OF, Found, experiment_name, find_study, split_name
from reports.contract.redact import redacted
from reports.contract.schema import (
    ARMS,
    COMPLETE,
    DEFAULT_PROTOCOL,
    FAIL,
    FLAG,
    FLAGS,
    MISSING,
    PROTOCOLS,
    PRUNED,
    QUALITY,
    TAG_KEY,
    TAG_KIND,
    TARGET,
    EmptyStudyError,
    Protocol,
    ReportError,
)

__all__ = [
    "ARMS",
    "COMPLETE",
    "DEFAULT_PROTOCOL",
    "FAIL",
    "FLAG",
    "FLAGS",
    "MISSING",
    "PROTOCOLS",
    "PRUNED",
    "QUALITY",
    "TAG_FRESH_OF",
    "TAG_KEY",
    "TAG_KIND",
    "TARGET",
    "EmptyStudyError",
    "Found",
    "Protocol",
    "ReportError",
    "experiment_name",
    "find_study",
    "options_fault",
    "redacted",
    "split_name",
]
