"""An answer, a table and a figure as a notebook shows them."""

from copy import deepcopy
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from reports.answer import Answer
from reports.cells import Table
from reports.charts import Chart, chart_bytes
from reports.errors import ReportError
from reports.render import answer_html, latex, markdown, table_frame, table_html

# Of a table in a notebook, whose own style it keeps otherwise.
_STYLE = (
    ".ship-table td,.ship-table th{padding:.2em .7em;white-space:pre}"
    ".ship-table .right{text-align:right}.ship-table .left{text-align:left}"
    ".ship-table .baseline td{font-weight:bold}"
)


@dataclass(frozen=True, repr=False)
class AnswerView:
    """The answer; its text by str(), in a notebook with its verdicts marked."""

    answer: Answer

    def __str__(self) -> str:
        """A line a finding."""
        return "\n".join(self.answer.lines)

    __repr__ = __str__  # what a plain console shows

    def _repr_html_(self) -> str:
        return answer_html(self.answer)


@dataclass(frozen=True, repr=False)
class TableView:
    """One table, shown in a notebook as it is on the page."""

    table: Table

    @property
    def frame(self) -> pl.DataFrame:
        """All rows at full precision, as the CSV file has them.

        Mean, low, high and n of each estimate are columns of their own.
        """
        return pl.read_csv(table_frame(self.table).write_csv().encode(), infer_schema_length=None)

    def markdown(self) -> str:
        """A pipe table with its notes."""
        return markdown([self.table])

    def latex(self) -> str:
        """A float with booktabs."""
        return latex([self.table])

    def __str__(self) -> str:
        """The Markdown."""
        return self.markdown()

    __repr__ = __str__  # what a plain console shows

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.table.notes)
        more = f"<details><summary>How to read this table</summary><ul>{notes}</ul></details>"
        table = f'<div class="ship-table">{table_html(self.table)}</div>'
        return f"<style>{_STYLE}</style><h4>{escape(self.table.title)}</h4>{table}{more}"


@dataclass(frozen=True, repr=False)
class FigureView:
    """One of the page's charts, drawn in a notebook as in the files of a report."""

    chart: Chart

    @property
    def spec(self) -> dict[str, Any]:
        """The Vega-Lite specification, for any library that draws these."""
        return deepcopy(self.chart.spec)

    def save(self, path: Path | str) -> None:
        """Write the chart, as wide as a paper's column.

        Args:
            path: File whose name ends in .png, .svg or .pdf.

        Raises:
            ReportError: The name has another ending (one line).
        """
        ending, files = Path(path).suffix.removeprefix("."), chart_bytes(self.chart)
        if ending not in files:
            raise ReportError(f"{path}: a figure is saved as {', '.join(files)}, got {ending!r}")
        Path(path).write_bytes(files[ending])

    def __repr__(self) -> str:
        """The chart's name."""
        return f"<figure {self.chart.name}>"

    def _repr_svg_(self) -> str:
        return chart_bytes(self.chart)["svg"].decode()
