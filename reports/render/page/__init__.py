"""One HTML page of a report: the answer, charts, tables, and how to read them; no network."""

from reports.render.page.build import page
from reports.render.page.tables import table_html

__all__ = ["page", "table_html"]
