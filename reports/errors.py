"""Errors that prevent a report.

The command line prints them and exits with code 3 for an EmptyStudyError, else with code 2.
"""

from collections.abc import Sequence

from harness.errors import SingleLineError


class ReportError(SingleLineError):
    """Reason why a report cannot be made, as one line without secrets."""


class ReportFaults(ReportError):
    """Several faults of an input file.

    Attributes:
        lines: The faults, one line each.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


class EmptyStudyError(ReportError):
    """Error for a study that exists, but has no ended run yet."""
