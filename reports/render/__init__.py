"""Tables as text on a terminal, Markdown, LaTeX, CSV, HTML, and figures.

Answers for: widths, escaping, precision and files. Decides nothing about numbers.
"""

from reports.render.files import (
    FILE_WIDTH,
    file_name,
    is_page_of,
    make_publication,
    overview_files,
    print_report,
    report_files,
    text_of,
    write_files,
    write_report,
)
from reports.render.markup import latex, markdown
from reports.render.page import answer_html, table_html
from reports.render.spreadsheet import csv_text, table_frame
