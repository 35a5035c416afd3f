"""Charts of a study as Vega-Lite specifications, shared by the page and the PNG, SVG and PDF files.

This package decides which numbers are drawn and how, and which warnings a chart shows. It takes the
numbers from reports.tables and reports.analysis, and computes no statistics.
"""

from reports.charts.export import adapt_style_to_page, make_page_script, render_chart, to_safe_json
from reports.charts.factor import FIGURES, make_factor_chart
from reports.charts.study import make_study_charts
from reports.charts.vega import Chart
