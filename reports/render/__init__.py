"""Tables as text on a terminal, Markdown, LaTeX, CSV, HTML, and figures.

Answers for: widths, escaping, precision and files. Decides nothing about numbers.
"""

from reports.render.answer import answer_html
from reports.render.files import (
    file_name,
    is_page_of,
    overview_files,
    print_report,
    report_files,
    text_of,
    view,
    write_files,
    write_report,
)
from reports.render.latex import latex
from reports.render.page import table_html
from reports.render.plain import csv_text, markdown

__all__ = [
    "answer_html",
    "csv_text",
    "file_name",
    "is_page_of",
    "latex",
    "markdown",
    "overview_files",
    "print_report",
    "report_files",
    "table_html",
    "text_of",
    "view",
    "write_files",
    "write_report",
]
