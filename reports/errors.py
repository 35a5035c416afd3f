"""Errors that prevent a report: the command line prints one line and exits with code 2 or 3."""

from harness.errors import UserError
from harness.wording import printable


class ReportError(UserError):
    """Error that gives in one line, without secrets, why no report can be made."""

    def __init__(self, line: str) -> None:
        super().__init__(printable(line))


class EmptyStudyError(ReportError):
    """Error of a study that exists but has no run that has ended."""
