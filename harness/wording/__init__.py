"""Format values, durations, counts and errors in messages.

Responsible for masking the secrets in addresses and escaping control characters. Imports no other
package of the project, and nothing that is slow to import.
"""

from harness.wording.redaction import mask_secrets
from harness.wording.text import (
    count,
    describe_error,
    escape_controls,
    escape_controls_in_lines,
    find_closest,
    format_duration,
    format_error_text,
    get_first_error_line,
    show,
)
