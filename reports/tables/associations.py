"""Association of a metric with the factors of a sampled study, and with feature quality."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from harness.store import COMPLETE, QUALITY, FactorRecord, level_id
from reports import stats
from reports.cells import (
    Column,
    PValue,
    Quantity,
    Ranged,
    Table,
    Text,
    Value,
    optional_cell,
)
from reports.stats import Array, Association, Estimate
from reports.study import Study, metric_heading
from reports.tables.groups import as_numbers, configuration_groups, configuration_rows
from reports.tables.metric import MEASURES, Measure
from reports.tables.notes import plain_table
from reports.tables.over_datasets import factors_with_own_classes

UNBIASED = ("grid", "random")  # samplers that do not use earlier results


class _Ranked(NamedTuple):
    """Fields of a row: a factor's key and its association, with p corrected over the factors."""

    name: str
    association: Association


def rank_table(study: Study, factors: Sequence[FactorRecord], metric: str) -> Table:
    """Return the table of the rank association of a metric with each factor.

    There is a p-value only if the sampler is UNBIASED. Other samplers prefer values near those of
    good configurations, so even a factor without any effect can be associated with the metric.

    Args:
        study: Study of the configurations.
        factors: Factors, one per row.
        metric: Name of the test metric. The value of a finished configuration is its mean over
            seeds.
    """
    associations = [_associate(study, factor, metric) for factor in factors]
    p_values = stats.holm([association.p for association in associations])
    min_p_values = stats.holm([association.min_p for association in associations])
    is_unbiased = study.sampler in UNBIASED
    rows = [
        _Ranked(factor.key, replace(association, p=p if is_unbiased else None, min_p=min_p))
        for factor, association, p, min_p in zip(
            factors, associations, p_values, min_p_values, strict=True
        )
    ]
    heading = metric_heading(study.protocol, metric)
    columns = [
        Column("factor", "factor", lambda row: Text(row.name), "left"),
        Column("n", "configurations", lambda row: Quantity(row.association.n, 0)),
        Column(
            "rho",
            f"Spearman ρ with {heading}",
            lambda row: optional_cell(Ranged, row.association.rho),
        ),
    ]
    if is_unbiased:
        columns.append(Column("p", "Holm p", lambda row: optional_cell(PValue, row.association.p)))
        columns.append(
            Column(
                "least",
                "smallest possible Holm p",
                lambda row: optional_cell(PValue, row.association.min_p),
                csv_only=True,
            )
        )
    test_text = (
        "permutation p (categorical factors: Kruskal-Wallis), Holm-corrected over the factors"
        if is_unbiased
        else f"no p, because {study.sampler} moves all factors towards good configurations"
    )
    note = (
        f"one value per finished configuration: its mean {heading} over seeds; [bootstrap 95%"
        f" interval]; {test_text}; a dash: the factor or {heading} is the same in all"
        f" configurations, or fewer than {stats.MIN_RANKED} have finished"
    )
    return plain_table(
        study, "ranks", "rank association", columns, rows, [note],
        _Ranked._asdict, kind="ranks", metric=metric,
    )  # fmt: skip


def _associate(study: Study, factor: FactorRecord, metric: str) -> Association:
    """Return the association of a factor with the metric's mean over seeds.

    Only finished configurations in which the factor is active are included.
    """
    levels: list[Any] = []
    values: list[float] = []
    for group in configuration_groups(study):
        value, assignment = group.mean(f"test/{metric}"), group.value.assignment
        if value is not None and factor.key in assignment:
            levels.append(assignment[factor.key])
            values.append(value)
    # a fixed seed, so that the same results always give the same table
    rng = np.random.default_rng(0)
    numbers = as_numbers(levels)
    if numbers is not None:
        return stats.rank_correlation(numbers, values, rng)
    return stats.rank_groups([level_id(level) for level in levels], values, rng)


MIN_CONFIGURATIONS = 4  # a seed with fewer finished configurations is left out of the trends


class _Response(NamedTuple):
    """Association of a metric with a quality measure under one seed.

    Attributes:
        rho: Spearman's rank correlation.
        slope: Slope of the metric per standard deviation of the measure.
        n_configurations: Number of configurations.
    """

    rho: float
    slope: float
    n_configurations: int


class _Trend(NamedTuple):
    """Row of the table: how a metric changes with a quality measure.

    Attributes:
        name: Short name of the measure.
        responses: Response under each seed.
        p: p-value of the mean slope (one-sample t-test over seeds), corrected over the measures.
            None before the correction, and if there is no test.
    """

    name: str
    responses: list[_Response]
    p: float | None = None

    @property
    def n_configurations(self) -> int:
        """Largest number of configurations under one seed."""
        return max(response.n_configurations for response in self.responses)

    @property
    def slopes(self) -> list[float]:
        """Slopes, one per seed."""
        return [response.slope for response in self.responses]

    @property
    def rho(self) -> Estimate:
        """Mean correlation over seeds, with its interval clipped to [-1, 1]."""
        estimate = stats.mean_interval([response.rho for response in self.responses])
        if estimate.low is None or estimate.high is None:
            return estimate
        return Estimate(estimate.mean, max(estimate.low, -1.0), min(estimate.high, 1.0), estimate.n)


def response_tables(study: Study, metric: str) -> list[Table]:
    """Return at most one table: a metric against the quality measures of synthetic features.

    Configurations are compared within each seed, because easy training images change the metric
    and the measures of all configurations. There is no table if no seed has MIN_CONFIGURATIONS, or
    if configurations are tested on different classes: easier classes would look like an effect of
    the features.

    Args:
        study: Study of the configurations.
        metric: Name of the test metric.
    """
    if factors_with_own_classes(study):
        return []
    all_trends = [
        _Trend(measure.short, _responses_by_seed(study, measure, metric)) for measure in MEASURES
    ]
    trends = [trend for trend in all_trends if trend.responses]
    if not trends:
        return []
    p_values = stats.holm([stats.one_sample_p(trend.slopes) for trend in trends])
    trends = [trend._replace(p=p) for trend, p in zip(trends, p_values, strict=True)]
    heading = metric_heading(study.protocol, metric)
    columns = [
        Column("measure", "measure", lambda trend: Text(trend.name), "left"),
        Column(
            "configurations",
            "configurations",
            lambda trend: Quantity(trend.n_configurations, 0),
            drop=2,
        ),
        Column("n", "seeds", lambda trend: Quantity(len(trend.responses), 0)),
        Column("rho", f"ρ with {heading}", lambda trend: Ranged(trend.rho)),
        Column(
            "slope",
            f"{heading} per SD",
            lambda trend: Value(stats.mean_interval(trend.slopes), signed=True),
        ),
        Column("p", "Holm p", lambda trend: optional_cell(PValue, trend.p), drop=1),
    ]
    note = (
        "computed for each seed separately, over its configurations with synthetic features. ρ:"
        f" Spearman correlation of the measure with {heading}; {heading} per SD: slope of"
        f" {heading} on the measure, per standard deviation of the measure between configurations."
        " Both: mean over seeds with its 95% t-interval. p: t-test of the slope, Holm-corrected"
        " over the measures. Other configurations may behave differently, and an association need"
        " not be causal"
    )
    title = f"{heading} against the quality of synthetic features"
    return [plain_table(study, "quality-response", title, columns, trends, [note], place="files")]


def _responses_by_seed(study: Study, measure: Measure, metric: str) -> list[_Response]:
    """Return the response under each seed.

    A seed is left out if it has fewer than MIN_CONFIGURATIONS, or if the metric or the measure is
    the same in all of them.
    """
    names = [f"test/{QUALITY}{measure.metric}", f"test/{metric}"]
    if not {*names} <= {*study.rows.columns}:
        return []
    responses: list[_Response] = []
    finished_rows = configuration_rows(study).filter(state=COMPLETE).drop_nulls(names)
    for seed_rows in finished_rows.partition_by("seed", maintain_order=True):
        x, y = (seed_rows[name].to_numpy() for name in names)
        if len(seed_rows) >= MIN_CONFIGURATIONS and not _is_constant(x) and not _is_constant(y):
            standardized_x = (x - x.mean()) / x.std(ddof=1)
            slope = float(standardized_x @ (y - y.mean()) / (standardized_x @ standardized_x))
            responses.append(_Response(stats.correlation(x, y), slope, len(seed_rows)))
    return responses


def _is_constant(values: Array) -> bool:
    """Return True if values differ by no more than fp32 rounding."""
    return bool(np.ptp(values) <= stats.MEASURED_ROUNDING * stats.scale_of(values))
