"""Format values, durations, counts and errors in messages.

Responsible for hiding secrets of addresses and escaping control characters. Imports nothing of the
project, and nothing heavy.
"""

from harness.wording.redaction import redacted
from harness.wording.text import (
    count,
    describe_error,
    error_text,
    first_error_line,
    format_duration,
    nearest,
    printable,
    printable_lines,
    show,
)
