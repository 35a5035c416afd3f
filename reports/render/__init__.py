"""Tables as text on a terminal, Markdown, LaTeX, CSV, HTML, and figures.

Answers for: widths, escaping, precision and files. Decides nothing about numbers.
"""

from reports.render.files import file_name, text_of, view, write_report

__all__ = ["file_name", "text_of", "view", "write_report"]
