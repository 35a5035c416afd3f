"""A table of the page, by great_tables, which escapes what it is given."""

import re
from html import escape

import polars as pl

from reports.contract import printable_lines
from reports.render.plain import row_cells
from reports.tables import PLAIN, STACKED, Table, broken, cell_text


def table_html(table: Table) -> str:
    """The table's HTML, without its title and its notes, which the page has around it."""
    from great_tables import GT, html, loc, style

    columns = table.page_columns
    dialect = STACKED if table.crowded else PLAIN
    rows = [(section, row) for section, rows in table.sections() for row in rows]
    data: dict[str, list[str]] = {"section": [printable_lines(section) for section, _ in rows]}
    texts = [
        [printable_lines(cell_text(cell, dialect)) for cell in row_cells(table, row)]
        for _, row in rows
    ]
    for place, column in enumerate(columns):
        data[column.key] = [text[place] for text in texts]
    frame = pl.DataFrame(data)
    identity = re.sub(r"[^A-Za-z0-9_-]", "-", f"table-{table.name}")
    if len(set(data["section"])) > 1:
        view = GT(frame, id=identity, groupname_col="section")
    else:
        view = GT(frame.drop("section"), id=identity)
    for place, column in enumerate(columns):
        lines = broken(column.heading) if table.crowded and place >= table.labels else []
        # great_tables takes {{...}} in a heading for a unit, and then escapes nothing of it.
        told = printable_lines("\n".join(lines) or column.heading)
        heading = escape(told).replace("{", "&#123;")
        view = view.cols_label({column.key: html(heading)})
    for column in columns:
        view = view.cols_align(align=column.align, columns=[column.key])
    bold = [place for place, (_, row) in enumerate(rows) if row.baseline]
    if bold:
        view = view.tab_style(style.text(weight="bold"), loc.body(rows=bold))
    # great_tables' own style knows one size and white paper; the page has a style for all tables.
    text = re.sub(r"<style>.*?</style>", "", str(view.as_raw_html()), flags=re.DOTALL).strip()
    # That each cell names its headings is a third of a page; one row of headings needs none of it.
    return re.sub(r'<(t[dh]) headers="[^"]*"', r"<\1", text)
