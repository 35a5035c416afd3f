"""How a metric goes with each factor of a sampled study, and with each measure of quality."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from harness.store import COMPLETE, QUALITY, Factor, level_id
from reports import stats
from reports.cells import (
    Column,
    PValue,
    Quantity,
    Ranged,
    Table,
    Text,
    Value,
    known,
)
from reports.stats import Array, Association, Estimate
from reports.study import Study, heading
from reports.tables.groups import as_numbers, own_rows, setting_groups
from reports.tables.metric import MEASURES, Measure
from reports.tables.notes import plain_table
from reports.tables.pooling import class_factors

UNBIASED = ("grid", "random")  # samplers that do not look at results


class _Ranked(NamedTuple):
    """A factor's key, and its association, with p corrected over the factors."""

    name: str
    ranked: Association


def rank_table(study: Study, factors: Sequence[Factor], metric: str) -> Table:
    """Return how the metric goes with each factor, over the settings that finished.

    Only configurations that were drawn at random have a p. Other samplers move all factors towards
    what was good before, so that a factor without any effect goes with the metric, too.

    Args:
        study: with a sampler that draws settings.
        factors: a row each.
        metric: name of the test metric; a setting's value is its mean over seeds.
    """
    plain = [_association(study, factor, metric) for factor in factors]
    adjusted, least = stats.holm([one.p for one in plain]), stats.holm([one.least for one in plain])
    is_random = study.sampler in UNBIASED
    found = [
        _Ranked(factor.key, replace(one, p=p if is_random else None, least=low))
        for factor, one, p, low in zip(factors, plain, adjusted, least, strict=True)
    ]
    head, order = heading(study.protocol, metric), "least Holm p of any order"
    columns = [
        Column("factor", "factor", lambda one: Text(one.name), "left"),
        Column("n", "settings", lambda one: Quantity(one.ranked.n, 0)),
        Column("rho", f"Spearman ρ with {head}", lambda one: known(Ranged, one.ranked.rho)),
    ]
    if is_random:
        columns.append(Column("p", "Holm p", lambda one: known(PValue, one.ranked.p)))
        columns.append(
            Column("least", order, lambda one: known(PValue, one.ranked.least), csv_only=True)
        )
    tested = (
        "permutation p (categorical factors: Kruskal-Wallis), Holm over the factors"
        if is_random
        else f"no p, since {study.sampler} moves all factors towards good configurations"
    )
    note = (
        f"over finished settings, one point a setting: its mean {head} over seeds; [bootstrap"
        f" 95% interval]; {tested}; a dash: one of the two is the same in all settings, or fewer"
        f" than {stats.FEWEST_RANKED} finished"
    )
    return plain_table(
        study, "ranks", "rank association", columns, found, [note],
        _Ranked._asdict, kind="ranks", metric=metric,
    )  # fmt: skip


def _association(study: Study, factor: Factor, metric: str) -> Association:
    """Of the factor's value and the metric's mean over seeds, in every finished setting with it."""
    levels: list[Any] = []
    values: list[float] = []
    for group in setting_groups(study):
        value, assignment = group.mean(f"test/{metric}"), group.value.assignment
        if value is not None and factor.key in assignment:
            levels.append(assignment[factor.key])
            values.append(value)
    # Seeded by nothing but the data's order: the same store gives the same table.
    rng = np.random.default_rng(0)
    numbers = as_numbers(levels)
    if numbers is not None:
        return stats.rank_correlation(numbers, values, rng)
    return stats.rank_groups([level_id(level) for level in levels], values, rng)


FEWEST_SETTINGS = 4  # fewer are no trend


class _Response(NamedTuple):
    """Of one seed: rank correlation, slope in points a standard deviation, settings."""

    rho: float
    slope: float
    settings: int


class _Trend(NamedTuple):
    """A measure's name, the response of each seed, and p of the mean slope, corrected."""

    name: str
    seeds: list[_Response]
    p: float | None = None

    @property
    def settings(self) -> int:
        """Most that a seed has."""
        return max(one.settings for one in self.seeds)

    @property
    def slopes(self) -> list[float]:
        """One a seed."""
        return [one.slope for one in self.seeds]

    @property
    def rho(self) -> Estimate:
        """The mean over seeds, its interval cut to where a correlation can be."""
        found = stats.mean_interval([one.rho for one in self.seeds])
        if found.low is None or found.high is None:
            return found
        return Estimate(found.mean, max(found.low, -1.0), min(found.high, 1.0), found.n)


def response_tables(study: Study, metric: str) -> list[Table]:
    """The table of a metric against the measures of quality; none with too few settings.

    Nor is there one where settings are measured on different classes: that some are easier would
    look like an effect of the features.

    A seed's settings are compared with each other alone: what makes a few-shot draw easy moves the
    metric and the measures of all its settings.

    Args:
        study: whose settings are compared.
        metric: name of the test metric.
    """
    if class_factors(study):
        return []
    every = [_Trend(measure.short, _by_seed(study, measure, metric)) for measure in MEASURES]
    found = [one for one in every if one.seeds]
    if not found:
        return []
    adjusted = stats.holm([stats.one_sample_p(one.slopes) for one in found])
    found = [one._replace(p=p) for one, p in zip(found, adjusted, strict=True)]
    head = heading(study.protocol, metric)
    columns = [
        Column("measure", "measure", lambda one: Text(one.name), "left"),
        Column("settings", "settings", lambda one: Quantity(one.settings, 0), drop=2),
        Column("n", "seeds", lambda one: Quantity(len(one.seeds), 0)),
        Column("rho", f"ρ with {head}", lambda one: Ranged(one.rho)),
        Column(
            "slope",
            f"{head} per SD",
            lambda one: Value(stats.mean_interval(one.slopes), signed=True),
        ),
        Column("p", "Holm p", lambda one: known(PValue, one.p), drop=1),
    ]
    note = (
        f"each seed alone, over its settings with synthesized features. ρ: Spearman's, of the"
        f" measure with {head}; {head} per SD: slope of {head} on the measure, in points for one"
        " standard deviation of the measure between settings. Both: mean over seeds with its 95%"
        f" t-interval; p: t-test of the slope, Holm over the measures. Other settings may go"
        f" otherwise, and a measure may go with {head} because both follow a third"
    )
    title = f"{head} against the quality of synthesized features"
    return [plain_table(study, "quality-response", title, columns, found, [note], place="files")]


def _by_seed(study: Study, measure: Measure, metric: str) -> list[_Response]:
    """The response of each seed in which enough settings have both, and both vary."""
    names = [f"test/{QUALITY}{measure.metric}", f"test/{metric}"]
    made: list[_Response] = []
    if not {*names} <= {*study.rows.columns}:
        return []
    done = own_rows(study).filter(state=COMPLETE).drop_nulls(names)
    for part in done.partition_by("seed", maintain_order=True):
        x, y = (part[name].to_numpy() for name in names)
        if len(part) >= FEWEST_SETTINGS and not _is_constant(x) and not _is_constant(y):
            standard = (x - x.mean()) / x.std(ddof=1)
            slope = float(standard @ (y - y.mean()) / (standard @ standard))
            made.append(_Response(stats.correlation(x, y), slope, len(part)))
    return made


def _is_constant(values: Array) -> bool:
    """Whether values differ by no more than fp32 rounds."""
    return bool(np.ptp(values) <= stats.MEASURED_ROUNDING * stats.scale_of(values))
