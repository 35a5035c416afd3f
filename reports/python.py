"""A study from Python and in notebooks: its rows, answer, tables and figures."""

from functools import cached_property
from html import escape
from pathlib import Path

import polars as pl

from harness.store import default_tracking_uri
from reports.analysis import Unavailable, importance
from reports.charts import Chart, study_charts
from reports.errors import ReportError
from reports.estimates import estimates
from reports.render import write_report
from reports.report import Report, make_report, reports_of
from reports.study import load_records
from reports.views import AnswerView, FigureView, TableView


def load_study(
    name: str, tracking_uri: str | Path | None = None, metric: str | None = None
) -> "LoadedStudy":
    """Read a study from MLflow, once; call again for what has been run since.

    Args:
        name: of the study, that is of its experiment.
        tracking_uri: of the store, or its sqlite file; None: MLFLOW_TRACKING_URI, else ./mlflow.db.
        metric: what differences and figures are of: a test metric of the study's protocol, or
            quality/MEASURE; None: the protocol's default.

    Raises:
        ReportError: unreadable store, unknown study or metric (one line).
        EmptyStudyError: a ReportError; no run of the study has ended yet.
    """
    for key, value in (("name", name), ("metric", metric or "")):
        if not isinstance(value, str):
            raise ReportError(f"load_study: {key} must be a text, got {value!r}")
    study = load_records(name, str(tracking_uri) if tracking_uri else None)
    return LoadedStudy(make_report(study, metric))


def load_studies(tracking_uri: str | Path | None = None) -> "dict[str, LoadedStudy]":
    """Read every study of a store that can be reported, the one begun last first.

    Args:
        tracking_uri: of the store, or its sqlite file; None: MLFLOW_TRACKING_URI, else ./mlflow.db.

    Raises:
        ReportError: unreadable store (one line).
    """
    every = reports_of(str(tracking_uri or default_tracking_uri()))
    # of others nothing has ended, or what the store has is damaged
    return {made.study.name: LoadedStudy(made) for made in every if isinstance(made, Report)}


class LoadedStudy:
    """A study as it was when it was read."""

    def __init__(self, report: Report) -> None:
        """Wrap a report; use load_study."""
        self._report = report

    @property
    def name(self) -> str:
        """Of its experiment."""
        return self._report.study.name

    @property
    def metric(self) -> str:
        """What differences, p-values and figures are of."""
        return self._report.metric

    @property
    def rows(self) -> pl.DataFrame:
        """One row for each setting and seed, in any state; numbers are null unless COMPLETE.

        `test/METRIC`, `selection/METRIC`, a column for each factor, and what each run cost.
        """
        return self._report.study.rows.clone()

    def answer(self) -> AnswerView:
        """What the study says: decided, equivalent or undecided, for each factor and arm."""
        return AnswerView(self._report.answer)

    @property
    def estimates(self) -> pl.DataFrame:
        """A row for each line of the tables and each metric; columns: see docs/report.md.

        Mean, interval and n, and for the metric of the report the difference to the baseline with
        all that the tables say of it.
        """
        return estimates(self._report.every_table)

    @property
    def tables(self) -> list[str]:
        """The names that table() takes."""
        return [table.name for table in self._report.every_table]

    def table(self, name: str | None = None) -> TableView:
        """One of the tables.

        Args:
            name: of `tables`; None: the first.

        Raises:
            ReportError: there is no such table (one line with the choices).
        """
        found = {table.name: table for table in self._report.every_table}
        chosen = next(iter(found)) if name is None else name
        if chosen not in found:
            raise ReportError(f"{self.name}: no table {name!r} (choices: {', '.join(found)})")
        return TableView(found[chosen])

    @property
    def figures(self) -> list[str]:
        """The names that figure() takes: factors, and charts of the page."""
        return list(self._charts)

    def figure(self, name: str | None = None) -> FigureView:
        """One of the page's charts, to be shown or saved (`.save("x.pdf")`).

        Args:
            name: of `figures`; None: the first.

        Raises:
            ReportError: there is no such chart (one line with the choices).
        """
        charts = self._charts
        chosen = next(iter(charts), None) if name is None else name
        if chosen not in charts:
            choices = ", ".join(charts) or "none: nothing has finished"
            raise ReportError(f"{self.name}: no figure {name!r} (choices: {choices})")
        return FigureView(charts[chosen])

    def importance(self) -> pl.DataFrame:
        """Factors and pairs with their share of the variance between settings, the largest first.

        Of a sampled study it is the share of PED-ANOVA's importance, which has no test.

        Columns: factors (joined by " × "), share, low, high (percent; null where unknown), n
        (seeds, of a sampled study settings), p (Holm-corrected; null without a test).

        Raises:
            ReportError: there are no shares, with the reason.
        """
        try:
            found = importance(self._report.study, self.metric)
        except Unavailable as error:
            raise ReportError(f"{self.name}: no importance: {error}") from error
        numbers = dict.fromkeys(("mean", "low", "high", "p"), pl.Float64)
        frame = pl.DataFrame(
            [
                {"factors": " × ".join(one.factors), "p": one.holm}
                | (vars(one.share) if one.share else {})
                for one in (*found.factors, *found.pairs)
            ],
            schema={"factors": pl.String, **numbers, "n": pl.Int64},
        )
        return frame.rename({"mean": "share"}).sort("share", descending=True, nulls_last=True)

    def write(self, out: Path | str, *, every_figure: bool = False) -> list[Path]:
        """Write the report's files into a folder, as ship-report does.

        Args:
            out: the folder.
            every_figure: whether all charts become PNG, SVG and PDF, not those of factors alone.

        Raises:
            ReportError: the folder cannot be written.
        """
        return write_report(self._report, Path(out), every_figure=every_figure)

    def __repr__(self) -> str:
        """The study's name, and how much of it there is."""
        settings = len(self._report.study.settings)
        return f"<study {self.name}: {settings} settings, {len(self.rows)} rows>"

    def _repr_html_(self) -> str:
        main = self.table()._repr_html_()
        return f"<h3>{escape(self.name)}</h3>{self.answer()._repr_html_()}{main}"

    @cached_property
    def _charts(self) -> dict[str, Chart]:
        return {chart.name: chart for chart in study_charts(self._report)}
