"""One HTML page of a report: the answer, charts, tables, and how to read them; no network."""

from reports.render.page.build import page

__all__ = ["page"]
