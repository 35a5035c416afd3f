"""Why no report can be made: the command line prints one line and exits with 2 or 3."""

from harness.errors import UserError
from harness.wording import printable


class ReportError(UserError):
    """Tell in one line why no report can be made, without secrets."""

    def __init__(self, line: str) -> None:
        super().__init__(printable(line))


class EmptyStudyError(ReportError):
    """Tell that the study exists and none of its runs has ended."""
