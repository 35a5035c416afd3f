"""How values, durations, counts and errors are spelled in the lines that a person reads.

Answers for: no secret of an address, and no character that a terminal obeys, is shown.
Imports nothing of the project, and nothing heavy.
"""

from harness.wording.redaction import redacted
from harness.wording.text import (
    count,
    duration,
    error_text,
    first_line,
    nearest,
    one_line,
    printable,
    printable_lines,
    show,
)
