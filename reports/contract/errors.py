"""Why a report cannot be made."""

from reports.contract.redact import redacted
from reports.contract.text import printable


class ReportError(ValueError):
    """One line about why no report can be made, without secrets."""

    def __init__(self, line: str) -> None:
        super().__init__(printable(redacted(line)))


class EmptyStudyError(ReportError):
    """The study exists and none of its runs has ended."""
