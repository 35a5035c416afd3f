"""Tables as text on a terminal, Markdown, LaTeX, CSV, HTML, and figures.

Answers for: widths, escaping, precision and files. Decides nothing about numbers.
"""

from reports.render.files import file_name, text_of, write_report
from reports.render.terminal import terminal_view

__all__ = ["file_name", "terminal_view", "text_of", "write_report"]
