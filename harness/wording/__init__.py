"""Format values, durations, counts and errors in messages.

Responsible for masking the secrets in addresses and escaping control characters. Imports no other
package of the project, and nothing that is slow to import.
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
