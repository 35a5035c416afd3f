"""Errors that prevent a report. The command line prints them and exits with code 2 or 3."""

from collections.abc import Sequence

from harness.errors import LineError


class ReportError(LineError):
    """Error with one line, without secrets, that says why a report cannot be made."""


class ReportFaults(ReportError):
    """Error with several faults of a file, one line each.

    Attributes:
        lines: The faults.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


class EmptyStudyError(ReportError):
    """Error of a study that exists, but of which no run has ended."""
