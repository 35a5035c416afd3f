"""Errors that prevent a report: the command line prints one line and exits with code 2 or 3."""

from harness.errors import LineError


class ReportError(LineError):
    """Error that gives in one line, without secrets, why no report can be made."""


class EmptyStudyError(ReportError):
    """Error of a study that exists but has no run that has ended."""
