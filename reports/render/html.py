"""One self-contained HTML page: the tables, and the figures inside it."""

import base64
import html
import re
from collections.abc import Sequence

import polars as pl

from reports.render.plain import row_cells
from reports.tables import PLAIN, STACKED, Table, broken, cell_text

_STYLE = (
    "body{font-family:system-ui,sans-serif;margin:2rem auto;max-width:84rem;padding:0 1rem}"
    ".gt_row,.gt_col_heading{white-space:pre}"
    "img{max-width:32rem;display:block;margin:1rem 0}"
)


def page(study_name: str, tables: Sequence[Table], pictures: Sequence[bytes] = ()) -> str:
    """The whole page.

    Args:
        study_name: its title.
        tables: in their order; those for programs alone (place "csv") are left out.
        pictures: contents of PNG files, which stand below the tables.
    """
    parts = [_fragment(table) for table in tables if table.place != "csv"]
    for picture in pictures:
        data = base64.b64encode(picture).decode("ascii")
        parts.append(f'<img alt="figure" src="data:image/png;base64,{data}">')
    title = html.escape(study_name)
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _fragment(table: Table) -> str:
    """One table by great_tables, which escapes what it is given."""
    from great_tables import GT, loc, style

    columns = table.page_columns
    dialect = STACKED if table.crowded else PLAIN
    rows = [(section, row) for section, rows in table.sections() for row in rows]
    data: dict[str, list[str]] = {"section": [section for section, _ in rows]}
    texts = [[cell_text(cell, dialect) for cell in row_cells(table, row)] for _, row in rows]
    for place, column in enumerate(columns):
        data[column.key] = [text[place] for text in texts]
    frame = pl.DataFrame(data)
    # The id becomes a CSS selector, in which a dot would mean a class.
    identity = re.sub(r"[^A-Za-z0-9_-]", "-", f"table-{table.name}")
    if len(set(data["section"])) > 1:
        view = GT(frame, id=identity, groupname_col="section")
    else:
        view = GT(frame.drop("section"), id=identity)
    view = view.tab_header(title=table.title)
    for place, column in enumerate(columns):
        lines = broken(column.heading) if table.crowded and place >= table.labels else []
        view = view.cols_label({column.key: "\n".join(lines) or column.heading})
    for column in columns:
        view = view.cols_align(align=column.align, columns=[column.key])
    for note in table.notes:
        view = view.tab_source_note(note)
    bold = [place for place, (_, row) in enumerate(rows) if row.baseline]
    if bold:
        view = view.tab_style(style.text(weight="bold"), loc.body(rows=bold))
    return str(view.as_raw_html(inline_css=False))
