"""Notebook views of an answer, a table and a figure."""

from copy import deepcopy
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from reports.answer import Answer
from reports.cells import Table
from reports.charts import Chart, render_chart
from reports.errors import ReportError
from reports.render import (
    format_tables_as_latex,
    format_tables_as_markdown,
    make_table_frame,
    render_answer,
    render_table,
)

# Applied on top of the notebook's own table style.
_STYLE = (
    ".ship-table td,.ship-table th{padding:.2em .7em;white-space:pre}"
    ".ship-table .right{text-align:right}.ship-table .left{text-align:left}"
    ".ship-table .baseline td{font-weight:bold}"
)


@dataclass(frozen=True, repr=False)
class AnswerView:
    """An answer, shown as plain text, or in a notebook as HTML with marked verdicts."""

    answer: Answer

    def __str__(self) -> str:
        """Return the answer, with one line per finding and caution."""
        return "\n".join(self.answer.lines)

    __repr__ = __str__  # what a plain console shows

    def _repr_html_(self) -> str:
        return render_answer(self.answer)


@dataclass(frozen=True, repr=False)
class TableView:
    """A table, shown in a notebook as on the report's page.

    Example:
        >>> table = load_study("prompt_len").table()  # doctest: +SKIP
        >>> print(table.latex())  # doctest: +SKIP
    """

    table: Table

    @property
    def frame(self) -> pl.DataFrame:
        """Data frame with all rows at full precision and the same columns as the CSV file.

        The mean, ends of the interval and n of an estimate are separate columns.
        """
        return pl.read_csv(
            make_table_frame(self.table).write_csv().encode(), infer_schema_length=None
        )

    def markdown(self) -> str:
        """Return a Markdown pipe table with its notes."""
        return format_tables_as_markdown([self.table])

    def latex(self) -> str:
        """Return a LaTeX table environment that uses booktabs."""
        return format_tables_as_latex([self.table])

    def __str__(self) -> str:
        """Return the table as Markdown."""
        return self.markdown()

    __repr__ = __str__  # what a plain console shows

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.table.notes)
        legend = f"<details><summary>How to read this table</summary><ul>{notes}</ul></details>"
        table = f'<div class="ship-table">{render_table(self.table)}</div>'
        return f"<style>{_STYLE}</style><h4>{escape(self.table.title)}</h4>{table}{legend}"


@dataclass(frozen=True, repr=False)
class FigureView:
    """A chart of the report. Notebooks show it as in the report's files.

    Example:
        >>> figure = load_study("prompt_len").figure()  # doctest: +SKIP
        >>> figure.save("n_ctx.svg")  # doctest: +SKIP
    """

    chart: Chart

    @property
    def spec(self) -> dict[str, Any]:
        """The Vega-Lite specification, for use with other libraries."""
        return deepcopy(self.chart.spec)

    def save(self, path: Path | str) -> None:
        """Write the chart to a file, 3.3 inches wide (the width of a column in a paper).

        Args:
            path: File whose name ends in .png, .svg or .pdf.

        Raises:
            ReportError: If the name has another ending (one line).
            OSError: If the file cannot be written.
        """
        file_format = Path(path).suffix.removeprefix(".")
        files = render_chart(self.chart)
        if file_format not in files:
            formats = ", ".join(files)
            raise ReportError(f"{path}: the format must be one of {formats}, got {file_format!r}")
        Path(path).write_bytes(files[file_format])

    def __repr__(self) -> str:
        """Return the chart's name."""
        return f"<figure {self.chart.name}>"

    def _repr_svg_(self) -> str:
        return render_chart(self.chart)["svg"].decode()
