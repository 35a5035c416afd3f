"""Rendering of reports as terminal text, Markdown, LaTeX, CSV and HTML, and writing of files.

This package handles widths, escaping, rounding and files. It computes no statistics.
"""

from reports.render.files import (
    FILE_WIDTH,
    file_name,
    is_page_of,
    make_publication,
    overview_files,
    paired_files,
    paired_name,
    print_report,
    report_files,
    report_text,
    write_files,
    write_report,
)
from reports.render.markup import tables_as_latex, tables_as_markdown
from reports.render.page import answer_html, table_html
from reports.render.spreadsheet import csv_text, table_frame
