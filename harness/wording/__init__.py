"""Format values, durations, counts and errors in messages.

Responsible for masking the secrets in addresses and escaping control characters. Imports no other
package of the project, and nothing that is slow to import.
"""

from harness.wording.redaction import mask_secrets
from harness.wording.text import (
    count,
    describe_error,
    error_text,
    find_closest,
    first_error_line,
    format_duration,
    printable,
    printable_lines,
    show,
)
