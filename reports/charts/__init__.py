"""Charts of a study as Vega-Lite specifications: one for the page, PNG, SVG and PDF alike.

Answers for: what is drawn of which numbers, axes, colours, and what a chart must not be read
without. Takes its numbers from reports.tables and reports.analysis, and computes none.
"""

from reports.charts.export import as_json, chart_bytes, for_page, page_script
from reports.charts.factor import FIGURES, factor_chart
from reports.charts.study import study_charts
from reports.charts.vega import Chart
