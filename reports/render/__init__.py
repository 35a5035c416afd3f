"""Tables as text on a terminal, Markdown, LaTeX, CSV, HTML, and figures.

Answers for: widths, escaping, precision and files. Decides nothing about numbers.
"""

from reports.render.files import (
    file_name,
    report_files,
    text_of,
    view,
    write_files,
    write_report,
)

__all__ = ["file_name", "report_files", "text_of", "view", "write_files", "write_report"]
