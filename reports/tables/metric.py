"""The metric of a report: a test metric of the protocol, or a quality measure.

The functions look up the format of a metric's numbers (percent, decimals, interval) and the
smallest effect of interest.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from harness.store import CUSTOM, QUALITY
from reports.errors import ReportError
from reports.stats import Estimate, compute_mean_interval, compute_percent_interval
from reports.study import Study


@dataclass(frozen=True)
class Measure:
    """A quality measure of synthetic features, and its column.

    Attributes:
        metric: Name of the metric without the prefix QUALITY.
        heading: Heading of the column: "measure", or "measure / reference".
        reference: Name of a second metric that is shown after a slash, usually the same measure of
            the real features. "" for none.
        drop: Order in which a narrow terminal drops the column; see Column.
        meaning: Explanation below the table. "" if another measure's explanation includes it.
        percent: Whether the metric and its reference are percentages.
    """

    metric: str
    heading: str
    reference: str = ""
    drop: int = 0
    meaning: str = ""
    percent: bool = False

    @property
    def short(self) -> str:
        """The heading without the part after the slash."""
        return self.heading.split(" / ")[0]


MEASURES = (
    Measure(
        "cosine_to_mean", "cos / text", "text_cosine_to_mean",
        meaning="cos / text: cosine between synthetic and real class means / between text features"
        " and real class means",
    ),
    Measure(
        "frechet", "Fréchet",
        meaning="Fréchet: squared distance of Gaussians fitted to synthetic and real features",
    ),
    Measure("mmd", "MMD²", drop=4, meaning="MMD²: unbiased estimate, which may be below 0"),
    Measure(
        "precision", "prec.", drop=3,
        meaning="prec., recall, coverage: fractions; these and density use k nearest neighbors",
    ),
    Measure("recall", "recall", drop=3),
    Measure("density", "density", drop=2),
    Measure("coverage", "coverage", drop=2),
    Measure(
        "real_to_synthetic", "real→syn.", drop=5,
        meaning="real→syn.: accuracy in percent, on synthetic features, of a classifier made of the"
        " real class means; syn.→real: the reverse",
        percent=True,
    ),
    Measure("synthetic_to_real", "syn.→real", percent=True),
    Measure(
        "recognized_by_images", "recognized", "recognized_by_text", drop=6,
        meaning="recognized: percentage of synthetic features that are classified correctly among"
        " all classes, by the class means of real test images / by zero-shot text",
        percent=True,
    ),
    Measure(
        "diversity", "diversity / real", "real_diversity",
        meaning="diversity / real: mean cosine distance within classes of synthetic / real"
        " features",
    ),
    Measure(
        "effective_rank", "rank / real", "real_effective_rank", drop=1,
        meaning="rank / real: effective rank within classes of synthetic / real features",
    ),
)  # fmt: skip


# Names of quality metrics that are percentages.
_PERCENTAGES = {name for m in MEASURES if m.percent for name in (m.metric, m.reference)}


def resolve_metric(study: Study, metric: str | None) -> tuple[Study, str]:
    """Find the metric of a report.

    Args:
        study: Study of the report.
        metric: Name of the requested metric, or its column heading (case-insensitive). Defaults to
            the protocol's main metric.

    Returns:
        The study and the metric's name. If the metric is a quality measure, the study is a copy
        whose protocol has a heading for it.

    Raises:
        ReportError: If the study has no such metric (one line with the choices).
    """
    headings = study.protocol.headings
    columns = list_measured_columns(study)
    measures = {f"{QUALITY}{m.metric}": m.short for m in MEASURES}
    headings_by_name = headings | {
        name: short for name, short in measures.items() if f"test/{name}" in columns
    }
    metric_name = study.protocol.default if metric is None else metric
    if metric_name not in headings_by_name:
        names_by_heading = {heading.casefold(): name for name, heading in headings_by_name.items()}
        metric_name = names_by_heading.get(metric_name.casefold(), metric_name)
    if metric_name not in headings_by_name:
        choices = ", ".join(headings_by_name)
        raise ReportError(f"{study.name}: no test metric {metric!r}; choices: {choices}")
    if metric_name in headings:
        return study, metric_name
    protocol = dataclasses.replace(
        study.protocol, headings={**headings, metric_name: headings_by_name[metric_name]}
    )
    return dataclasses.replace(study, protocol=protocol), metric_name


def list_measured_columns(study: Study) -> set[str]:
    """Return the names of the columns of `study.rows` that are not entirely null."""
    return {name for name in study.rows.columns if study.rows[name].count()}


def list_other_metrics(study: Study, metric: str) -> list[str]:
    """Return the other metrics of the protocol that a report shows next to its main metric.

    If a metric is the harmonic mean of two others, such as Base and New, these two are left out.

    Args:
        study: The study.
        metric: Main metric of the report. If it is a quality measure, the result is [].
    """
    protocol = study.protocol
    halves = [half for pair in protocol.halves.values() for half in pair]
    names = [name for name in protocol.shown if name not in (metric, *halves)]
    return names if metric in protocol.headings and not metric.startswith(QUALITY) else []


def is_percent(metric: str) -> bool:
    """Return True if a metric is a percentage.

    All metrics of protocols and some quality measures are. Metrics of plugins are not.
    """
    is_protocol_metric = not metric.startswith((QUALITY, CUSTOM))
    return is_protocol_metric or metric.removeprefix(QUALITY) in _PERCENTAGES


def compute_interval(metric: str, values: Sequence[float]) -> Estimate:
    """Return the mean over seeds with its interval, which is within 0 and 100 for percentages.

    Args:
        metric: Name of the metric, without "test/" or "selection/".
        values: Values of the metric, one per seed.
    """
    return compute_percent_interval(values) if is_percent(metric) else compute_mean_interval(values)


def get_decimals(study: Study, metric: str) -> int:
    """Return the number of decimals in a metric's cells: 1 for percentages, else 1 to 4."""
    if is_percent(metric):
        return 1
    return compute_decimals(study.rows[f"test/{metric}"].drop_nulls().to_list())


def compute_decimals(values: Sequence[float]) -> int:
    """Return the number of decimals, 1 to 4, that shows about three digits of the largest value."""
    largest = max(map(abs, values), default=0.0)
    for decimals, threshold in ((1, 20), (2, 2), (3, 0.02)):
        if largest >= threshold:
            return decimals
    return 4


def get_smallest_effect(study: Study, metric: str) -> float | None:
    """Return the study's smallest effect of interest; None if the metric is not a percentage."""
    return study.smallest_effect if is_percent(metric) else None
