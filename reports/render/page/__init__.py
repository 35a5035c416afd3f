"""HTML pages without a network: of a report (answer, charts, tables), and over several studies."""

from reports.render.page.build import page
from reports.render.page.overview import Entry, entry, overview, overview_lines
from reports.render.page.tables import table_html

__all__ = ["Entry", "entry", "overview", "overview_lines", "page", "table_html"]
