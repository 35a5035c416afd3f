"""Rendering of reports as terminal text, Markdown, LaTeX, CSV and HTML, and writing of files.

This package handles widths, escaping, rounding and files. It computes no statistics.
"""

from reports.render.files import (
    FILE_WIDTH,
    format_report,
    is_page_of,
    make_file_name,
    make_overview_files,
    make_paired_files,
    make_paired_name,
    make_publication,
    make_report_files,
    print_report,
    write_files,
    write_report,
)
from reports.render.markup import format_tables_as_latex, format_tables_as_markdown
from reports.render.page import render_answer, render_table
from reports.render.spreadsheet import format_csv, make_table_frame
