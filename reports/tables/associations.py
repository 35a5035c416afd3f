"""Tables that show how a metric is associated with factors, or with the quality of features."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from harness.store import COMPLETE, QUALITY, FactorRecord, make_level_id
from reports import stats
from reports.cells import (
    Column,
    PValue,
    Quantity,
    Ranged,
    Table,
    Text,
    Value,
    make_optional_cell,
)
from reports.stats import Array, Association, Estimate
from reports.study import Study, get_metric_heading
from reports.tables.annotated_tables import make_plain_table
from reports.tables.groups import as_numbers, make_configuration_groups, select_configuration_rows
from reports.tables.metric import MEASURES, Measure
from reports.tables.over_datasets import find_factors_that_change_test_classes

UNBIASED = ("grid", "random")  # samplers whose choices do not depend on earlier results


class _FactorRank(NamedTuple):
    """A factor's key and its association; p and min_p are corrected over the factors."""

    key: str
    association: Association


def make_rank_table(study: Study, factors: Sequence[FactorRecord], metric: str) -> Table:
    """Return the table of rank associations between a metric and each factor.

    The table has p-values only if the sampler is UNBIASED. Other samplers move all factors towards
    values that did well before, so even a factor without any effect is associated with the metric.

    Args:
        study: Study of the configurations.
        factors: Factors of the rows.
        metric: Name of the test metric. The value of a configuration is its mean over seeds.
    """
    associations = [_associate(study, factor, metric) for factor in factors]
    p_values = stats.adjust_by_holm([association.p for association in associations])
    min_p_values = stats.adjust_by_holm([association.min_p for association in associations])
    is_unbiased = study.sampler in UNBIASED
    ranks = [
        _FactorRank(factor.key, replace(association, p=p if is_unbiased else None, min_p=min_p))
        for factor, association, p, min_p in zip(
            factors, associations, p_values, min_p_values, strict=True
        )
    ]
    heading = get_metric_heading(study.protocol, metric)
    columns = [
        Column("factor", "factor", lambda rank: Text(rank.key), "left"),
        Column("n", "configurations", lambda rank: Quantity(rank.association.n, 0)),
        Column(
            "rho",
            f"Spearman ρ with {heading}",
            lambda rank: make_optional_cell(Ranged, rank.association.rho),
        ),
    ]
    if is_unbiased:
        columns.append(
            Column("p", "Holm p", lambda rank: make_optional_cell(PValue, rank.association.p))
        )
        columns.append(
            Column(
                "min_p",
                "smallest possible Holm p",
                lambda rank: make_optional_cell(PValue, rank.association.min_p),
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
    return make_plain_table(
        study, "ranks", "rank association", columns, ranks, [note],
        lambda rank: {"name": rank.key, "association": rank.association},
        kind="ranks", metric=metric,
    )  # fmt: skip


def _associate(study: Study, factor: FactorRecord, metric: str) -> Association:
    """Return the rank association of a factor with the metric's mean over seeds.

    Only configurations in which the factor is active, and which have a finished seed with the
    metric, are included. p and min_p are not corrected.
    """
    levels: list[Any] = []
    values: list[float] = []
    for group in make_configuration_groups(study):
        value, assignment = group.mean(f"test/{metric}"), group.value.assignment
        if value is not None and factor.key in assignment:
            levels.append(assignment[factor.key])
            values.append(value)
    # a fixed seed, so that reports of the same results are identical
    rng = np.random.default_rng(0)
    numbers = as_numbers(levels)
    if numbers is not None:
        return stats.compute_rank_correlation(numbers, values, rng)
    return stats.compute_group_association([make_level_id(level) for level in levels], values, rng)


# make_response_tables leaves out seeds with fewer finished configurations than this.
MIN_CONFIGURATIONS = 4


class _Response(NamedTuple):
    """Association of a metric with a quality measure under one seed.

    Attributes:
        rho: Spearman's rank correlation.
        slope: Slope of the metric, per standard deviation of the measure over configurations.
        n_configurations: Number of configurations.
    """

    rho: float
    slope: float
    n_configurations: int


class _Trend(NamedTuple):
    """Association of a metric with a quality measure over all seeds.

    Attributes:
        name: Short heading of the measure.
        responses: Association under each seed.
        p: p-value of the test that the mean slope is 0, Holm-corrected over the measures. None
            with one seed, or if the slopes are equal.
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
        estimate = stats.compute_mean_interval([response.rho for response in self.responses])
        if estimate.low is None or estimate.high is None:
            return estimate
        return Estimate(estimate.mean, max(estimate.low, -1.0), min(estimate.high, 1.0), estimate.n)


def make_response_tables(study: Study, metric: str) -> list[Table]:
    """Return the table of associations between a metric and each quality measure, in a list.

    Associations are computed within each seed, because an easy few-shot sample improves the metric
    and the measures of all configurations.

    Args:
        study: Study of the configurations.
        metric: Name of the test metric.

    Returns:
        [] if no seed has MIN_CONFIGURATIONS finished configurations with different values, or if
        configurations are tested on different classes: easier classes would look like an effect of
        the features.
    """
    if find_factors_that_change_test_classes(study):
        return []
    all_trends = [
        _Trend(measure.short, _compute_responses_by_seed(study, measure, metric))
        for measure in MEASURES
    ]
    trends = [trend for trend in all_trends if trend.responses]
    if not trends:
        return []
    p_values = stats.adjust_by_holm([stats.compute_one_sample_p(trend.slopes) for trend in trends])
    trends = [trend._replace(p=p) for trend, p in zip(trends, p_values, strict=True)]
    heading = get_metric_heading(study.protocol, metric)
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
            lambda trend: Value(stats.compute_mean_interval(trend.slopes), signed=True),
        ),
        Column("p", "Holm p", lambda trend: make_optional_cell(PValue, trend.p), drop=1),
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
    return [
        make_plain_table(study, "quality-response", title, columns, trends, [note], place="files")
    ]


def _compute_responses_by_seed(study: Study, measure: Measure, metric: str) -> list[_Response]:
    """Return the association of a metric with a measure under each seed.

    Seeds with fewer than MIN_CONFIGURATIONS finished configurations, or under which the metric or
    the measure is constant, are left out.
    """
    names = [f"test/{QUALITY}{measure.metric}", f"test/{metric}"]
    if not {*names} <= {*study.rows.columns}:
        return []
    responses: list[_Response] = []
    finished_rows = select_configuration_rows(study).filter(state=COMPLETE).drop_nulls(names)
    for seed_rows in finished_rows.partition_by("seed", maintain_order=True):
        x, y = (seed_rows[name].to_numpy() for name in names)
        if len(seed_rows) >= MIN_CONFIGURATIONS and not _is_constant(x) and not _is_constant(y):
            standardized_x = (x - x.mean()) / x.std(ddof=1)
            slope = float(standardized_x @ (y - y.mean()) / (standardized_x @ standardized_x))
            responses.append(_Response(stats.compute_spearman_rho(x, y), slope, len(seed_rows)))
    return responses


def _is_constant(values: Array) -> bool:
    """Return True if the values differ by no more than the rounding errors of fp32."""
    return bool(np.ptp(values) <= stats.MEASURED_ROUNDING * stats.compute_scale(values))
