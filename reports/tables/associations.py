"""How a metric goes with each factor of a sampled study, and with each measure of quality."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from reports.contract import COMPLETE, QUALITY
from reports.read import Factor, Study, heading
from reports.stats import (
    FEWEST_RANKED,
    MEASURED_ROUNDING,
    Array,
    Association,
    Estimate,
    correlation,
    holm,
    is_rounding,
    mean_interval,
    one_sample_p,
    rank_correlation,
    rank_groups,
    scale_of,
)
from reports.tables.groups import APART, is_numeric, setting_groups
from reports.tables.metric import MEASURES, Measure
from reports.tables.model import (
    Cell,
    Column,
    PValue,
    Quantity,
    Ranged,
    Ranked,
    Table,
    Text,
    Value,
    known,
    level_id,
)
from reports.tables.notes import noted_table
from reports.tables.rows import plain_rows


def rank_table(study: Study, factors: Sequence[Factor], metric: str) -> Table:
    """How the metric goes with each factor, over the settings that finished.

    Args:
        study: with a sampler that draws settings.
        factors: a row each.
        metric: name of the test metric; a setting's value is its mean over seeds.
    """
    points = [_per_setting(study, factor, metric) for factor in factors]
    found = [_association(*one) for one in points]
    adjusted = holm([association.p for association in found])
    least = holm([association.least for association in found])
    ranks = [
        Ranked(factor.key, one.n, one.rho, p, low, is_rounding(np.ptp(y or [0.0]), scale_of(y)))
        for factor, one, p, low, (_, y) in zip(factors, found, adjusted, least, points, strict=True)
    ]
    plain = plain_rows(study, map(_cells, ranks))
    rows = [replace(row, ranked=one) for row, one in zip(plain, ranks, strict=True)]
    head = heading(study.protocol, metric)
    columns = (
        Column("factor", "factor", "left"),
        Column("n", "settings"),
        Column("rho", f"Spearman ρ with {head}"),
        Column("p", "Holm p"),
        Column("least", "least Holm p of any order", csv_only=True),
    )
    told = (
        f"over finished settings, one point a setting: its mean {head} over seeds; [bootstrap"
        " 95% interval]; permutation p (categorical factors: Kruskal-Wallis), Holm over the"
        " factors. A sampler that favours good settings makes these descriptive"
    )
    notes = [told, *_empty(study, ranks)]
    about: dict[str, Any] = {"kind": "ranks", "metric": metric}
    return noted_table(study, "ranks", "rank association", columns, rows, notes, **about)


def _association(levels: Sequence[Any], values: Sequence[float]) -> Association:
    # Seeded by nothing but the data's order: the same store gives the same table.
    rng = np.random.default_rng(0)
    if is_numeric(levels):
        return rank_correlation([float(level) for level in levels], values, rng)
    return rank_groups([level_id(level) for level in levels], values, rng)


def _cells(one: Ranked) -> dict[str, Cell | None]:
    return {
        "factor": Text(one.factor),
        "n": Quantity(one.n, 0),
        "rho": known(Ranged, one.rho),
        "p": known(PValue, one.p),
        "least": known(PValue, one.least),
    }


def _empty(study: Study, found: Sequence[Ranked]) -> list[str]:
    """Why there are dashes: too few settings finished, or they do not differ."""
    if all(one.p is not None for one in found):
        return []
    finished = max(one.n for one in found)
    if finished >= FEWEST_RANKED:
        return ["a dash: the factor, or the metric, is the same in all finished settings"]
    own = [setting for setting in study.settings if not setting.arm]
    stopped = sum(not group.count(COMPLETE) for group in setting_groups(study))
    return [
        f"a dash: {finished} of {len(own)} settings finished, ranks need {FEWEST_RANKED}"
        f" ({stopped} failed, were stopped early by the scheduler, or are missing)"
    ]


def _per_setting(study: Study, factor: Factor, metric: str) -> tuple[list[Any], list[float]]:
    """The factor's value and the metric's mean over seeds, of every finished setting with it."""
    levels: list[Any] = []
    values: list[float] = []
    for group in setting_groups(study):
        found = group.known(f"test/{metric}")
        if factor.key in group.value.assignment and found:
            levels.append(group.value.assignment[factor.key])
            values.append(sum(found) / len(found))
    return levels, values


FEWEST_SETTINGS = 4  # fewer are no trend


def on_other_classes(study: Study) -> bool:
    """Whether some settings are measured on other classes than others: their values differ by that.

    Args:
        study: of one dataset, or averages.
    """
    return bool(class_factors(study))


def class_factors(study: Study) -> list[Factor]:
    """The factors whose levels are measured on other classes, or on more of them."""
    return [factor for factor in study.factors if factor.key in (*APART, "max_classes")]


class _Response(NamedTuple):
    """Of each seed: rank correlation over settings, and points a standard deviation."""

    measure: Measure
    rho: list[float]
    slope: list[float]
    settings: int


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
    if on_other_classes(study):
        return []
    found = [_response(study, measure, metric) for measure in MEASURES]
    kept = [response for response in found if response is not None]
    if not kept:
        return []
    adjusted = holm([one_sample_p(response.slope) for response in kept])
    rows = plain_rows(study, (_row(*one) for one in zip(kept, adjusted, strict=True)))
    head = heading(study.protocol, metric)
    notes = [
        f"each seed alone, over its settings with synthesized features. ρ: Spearman's, of the"
        f" measure with {head}; {head} per SD: slope of {head} on the measure, in points for one"
        " standard deviation of the measure between settings. Both: mean over seeds with its 95%"
        f" t-interval; p: t-test of the slope, Holm over the table's {len(kept)} measures",
        "the settings are those of the study: others may go otherwise, and a measure may go with"
        f" {head} because both follow a third",
    ]
    columns = (
        Column("measure", "measure", "left"),
        Column("settings", "settings", drop=2),
        Column("n", "seeds"),
        Column("rho", f"ρ with {head}"),
        Column("slope", f"{head} per SD"),
        Column("p", "Holm p", drop=1),
    )
    title, place = f"{head} against the quality of synthesized features", {"place": "files"}
    return [noted_table(study, "quality-response", title, columns, rows, notes, **place)]


def _row(response: _Response, p: float | None) -> dict[str, Cell | None]:
    rho = mean_interval(response.rho)
    return {
        "measure": Text(response.measure.short),
        "settings": Quantity(response.settings, 0),
        "n": Quantity(len(response.rho), 0),
        "rho": Ranged(_within_one(rho)),
        "slope": Value(mean_interval(response.slope), signed=True),
        "p": known(PValue, p),
    }


def _within_one(rho: Estimate) -> Estimate:
    """A correlation's interval, cut to where a correlation can be."""
    if rho.low is None or rho.high is None:
        return rho
    return Estimate(rho.mean, max(rho.low, -1.0), min(rho.high, 1.0), rho.n)


def _response(study: Study, measure: Measure, metric: str) -> _Response | None:
    """None where no seed has enough settings, or the measure or the metric does not vary."""
    name, target = f"test/{QUALITY}{measure.metric}", f"test/{metric}"
    if name not in study.rows.columns or target not in study.rows.columns:
        return None
    own = {setting.key for setting in study.settings if not setting.arm}
    rows = study.rows.filter(
        pl.col("setting_key").is_in(list(own))
        & (pl.col("state") == COMPLETE)
        & pl.col(name).is_not_null()
        & pl.col(target).is_not_null()
    )
    rhos, slopes, sizes = [], [], []
    for part in rows.partition_by("seed", maintain_order=True):
        made = _of_seed(part[name].to_list(), part[target].to_list())
        if made is not None:
            rhos.append(made[0])
            slopes.append(made[1])
            sizes.append(len(part))
    return _Response(measure, rhos, slopes, max(sizes)) if rhos else None


def _constant(values: Array) -> bool:
    """Whether values differ by no more than fp32 rounds."""
    return bool(np.ptp(values) <= MEASURED_ROUNDING * scale_of(values))


def _of_seed(measured: Sequence[float], reached: Sequence[float]) -> tuple[float, float] | None:
    x, y = np.asarray(measured, dtype=np.float64), np.asarray(reached, dtype=np.float64)
    if len(x) < FEWEST_SETTINGS or _constant(x) or _constant(y):
        return None
    standard = (x - x.mean()) / x.std(ddof=1)
    return correlation(x, y), float(standard @ (y - y.mean()) / (standard @ standard))
