"""Python and notebook access to a study: its rows, answer, tables and figures."""

from functools import cached_property
from html import escape
from pathlib import Path

import polars as pl

from harness.store import get_default_tracking_uri
from reports.analysis import Unavailable, compute_importance
from reports.charts import Chart, make_study_charts
from reports.errors import ReportError
from reports.estimates_frame import make_estimates_frame
from reports.render import write_report
from reports.report import Report, make_report, make_reports
from reports.study import load_records
from reports.views import AnswerView, FigureView, TableView


def load_study(
    name: str, tracking_uri: str | Path | None = None, metric: str | None = None
) -> "LoadedStudy":
    """Read a study from MLflow. The result does not change when later runs end.

    Args:
        name: Name of the study, which is the name of its MLflow experiment.
        tracking_uri: MLflow tracking URI, or path of an SQLite file. Defaults to
            MLFLOW_TRACKING_URI, else ./mlflow.db.
        metric: Metric of the differences, p-values and figures: a test metric of the study's
            protocol, or quality/MEASURE. Defaults to the protocol's main metric.

    Returns:
        The study, with its answer, tables and figures.

    Raises:
        ReportError: If the store cannot be read, if the study or the metric is unknown, or if
            `name` or `metric` is no string (one line).
        EmptyStudyError: If the study has no ended run yet. It is a ReportError.

    Example:
        >>> study = load_study("prompt_len", "mlflow.db")
        >>> answer, table = study.answer(), study.table().frame
    """
    for key, value in (("name", name), ("metric", metric or "")):
        if not isinstance(value, str):
            raise ReportError(f"load_study: {key} must be a string, got {value!r}")
    study = load_records(name, str(tracking_uri) if tracking_uri else None)
    return LoadedStudy(make_report(study, metric))


def load_studies(tracking_uri: str | Path | None = None) -> "dict[str, LoadedStudy]":
    """Read all studies of a store, the most recently begun first.

    Studies without an ended run, and studies that cannot be read, are left out.

    Args:
        tracking_uri: MLflow tracking URI, or path of an SQLite file. Defaults to
            MLFLOW_TRACKING_URI, else ./mlflow.db.

    Returns:
        The studies by name.

    Raises:
        ReportError: If the store cannot be read (one line).

    Example:
        >>> studies = load_studies("runs/mlflow.db")  # doctest: +SKIP
        >>> [(name, study.metric) for name, study in studies.items()]  # doctest: +SKIP
    """
    results = make_reports(str(tracking_uri or get_default_tracking_uri()))
    # make_reports yields an error for each study that has to be left out
    return {
        result.study.name: LoadedStudy(result) for result in results if isinstance(result, Report)
    }


class LoadedStudy:
    """A study as it was when it was read, with its answer, tables and figures.

    Metrics are percentages from 0 to 100, and differences are in percentage points, except for
    some quality measures.

    Example:
        >>> study = load_study("prompt_len")  # doctest: +SKIP
        >>> study.estimates.filter(metric="harmonic_mean")  # doctest: +SKIP
        >>> study.write("prompt_len-report")  # doctest: +SKIP
    """

    def __init__(self, report: Report) -> None:
        """Wrap a report. Call load_study to create an instance."""
        self._report = report

    @property
    def name(self) -> str:
        """The study's name, which is the name of its MLflow experiment."""
        return self._report.study.name

    @property
    def metric(self) -> str:
        """Name of the metric that differences, p-values and figures use."""
        return self._report.metric

    @property
    def rows(self) -> pl.DataFrame:
        """Data frame with one row per configuration and seed, in any state.

        It has the columns `state`, `test/METRIC` and `selection/METRIC` (accuracies in percent),
        one column per factor, and the costs of the seed (`seconds`, `text_tokens`,
        `peak_memory_mb`). Metrics are null unless the state is COMPLETE.
        """
        return self._report.study.rows.clone()

    def answer(self) -> AnswerView:
        """Return the findings with their verdicts, reasons for missing verdicts, and cautions."""
        return AnswerView(self._report.answer)

    @property
    def estimates(self) -> pl.DataFrame:
        """Data frame with one row per table line and metric; docs/report.md lists the columns.

        Each row has a mean, its interval and n. Rows of the report's metric also have the
        difference to the baseline with its interval, p-values and verdict.
        """
        return make_estimates_frame(self._report.all_tables)

    @property
    def tables(self) -> list[str]:
        """Table names that table() accepts."""
        return [table.name for table in self._report.all_tables]

    def table(self, name: str | None = None) -> TableView:
        """Return a table.

        Args:
            name: One of `tables`. Defaults to the first.

        Raises:
            ReportError: If there is no such table (one line with the choices).
        """
        by_name = {table.name: table for table in self._report.all_tables}
        table_name = next(iter(by_name)) if name is None else name
        if table_name not in by_name:
            raise ReportError(f"{self.name}: no table {name!r} (choices: {', '.join(by_name)})")
        return TableView(by_name[table_name])

    @property
    def figures(self) -> list[str]:
        """Chart names that figure() accepts, in the order of the page."""
        return list(self._charts)

    def figure(self, name: str | None = None) -> FigureView:
        """Return a chart of the page. Notebooks show it; `.save("x.pdf")` writes it to a file.

        Args:
            name: One of `figures`. Defaults to the first.

        Raises:
            ReportError: If there is no such chart (one line with the choices).
        """
        charts = self._charts
        figure_name = next(iter(charts), None) if name is None else name
        if figure_name not in charts:
            choices = ", ".join(charts) or "none: nothing has finished"
            raise ReportError(f"{self.name}: no figure {name!r} (choices: {choices})")
        return FigureView(charts[figure_name])

    def importance(self) -> pl.DataFrame:
        """Return how important each factor is for the report's metric, as a share in percent.

        On a grid, a share is a part of the variance between configurations, without the noise of
        seeds. Pairs of factors have shares, too. The shares are omega squared (Hays, 1963) of a
        type II ANOVA with seeds as blocks; their intervals are jackknife intervals over seeds.

        In sampled studies, a share is a part of the sum of PED-ANOVA importances
        (arXiv:2304.10255). There are no pairs, intervals or tests.

        Returns:
            Data frame with a row per factor or pair, the largest share first. Columns:

            - factors: Key of the factor, or both keys of a pair joined by " × ".
            - share, low, high: The share and the ends of its interval in percent. Null if unknown.
            - n: Number of seeds, or in sampled studies number of configurations.
            - p: Holm-corrected p of the test of no effect. Null without a test.

        Raises:
            ReportError: If the shares cannot be computed; the message gives the reason.
        """
        try:
            shares = compute_importance(self._report.study, self.metric)
        except Unavailable as error:
            raise ReportError(f"{self.name}: no importance: {error}") from error
        numbers = dict.fromkeys(("mean", "low", "high", "p"), pl.Float64)
        frame = pl.DataFrame(
            [
                {"factors": " × ".join(effect.factors), "p": effect.holm_p}
                | (vars(effect.share) if effect.share else {})
                for effect in (*shares.factors, *shares.pairs)
            ],
            schema={"factors": pl.String, **numbers, "n": pl.Int64},
        )
        return frame.rename({"mean": "share"}).sort("share", descending=True, nulls_last=True)

    def write(self, out: Path | str, *, every_figure: bool = False) -> list[Path]:
        """Write the report's files into a folder, as ship-report does.

        Args:
            out: Path of the folder.
            every_figure: Whether to write all charts as PNG, SVG and PDF, instead of only the
                charts of factors.

        Returns:
            Paths of the written files.

        Raises:
            ReportError: If the folder cannot be written.
        """
        return write_report(self._report, Path(out), every_figure=every_figure)

    def __repr__(self) -> str:
        """Return the study's name with its number of configurations and rows."""
        n_configurations = len(self._report.study.configurations)
        return f"<study {self.name}: {n_configurations} configurations, {len(self.rows)} rows>"

    def _repr_html_(self) -> str:
        table_html = self.table()._repr_html_()
        return f"<h3>{escape(self.name)}</h3>{self.answer()._repr_html_()}{table_html}"

    @cached_property
    def _charts(self) -> dict[str, Chart]:
        return {chart.name: chart for chart in make_study_charts(self._report)}
