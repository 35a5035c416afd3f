"""A study's tables in reading order."""

import dataclasses

from reports.contract import QUALITY
from reports.read import Factor, Study
from reports.tables.ablation import factor_table, settings_table
from reports.tables.associations import APART, rank_table, response_tables
from reports.tables.datasets import AVERAGE, dataset_tables
from reports.tables.groups import MOST_LEVELS, ordered_levels
from reports.tables.metric import with_metric
from reports.tables.model import Table
from reports.tables.pooling import averaged, dataset_factor, datasets, one_dataset
from reports.tables.preference import without_added
from reports.tables.quality import quality_tables
from reports.tables.selection import selection_tables

# Of more datasets than this the tables of each alone are in the files, not in the terminal.
MOST_DATASETS = 3


def build_tables(study: Study, metric: str | None = None) -> list[Table]:
    """Every table of a study.

    One factor with levels: its ablation table. Several factors on a grid: all settings, then each
    factor's main effects. A sampled study or a range: the top settings, then rank associations. A
    grid over datasets: a row for each method with its average, then each dataset alone. Last, what
    selection chose, the quality of synthesized features, and how the metric goes with it.

    Args:
        metric: the test metric, or measure of quality, that differences and p-values are of; None:
            the protocol's default.

    Raises:
        ReportError: the protocol has no such metric.
    """
    study, metric = with_metric(study, metric)
    over = dataset_factor(study)
    tables = _over_datasets(study, over, metric) if over else _of_settings(study, metric)
    beside = [*selection_tables(study), *quality_tables(study)]
    of_quality = metric.startswith(QUALITY)
    own = without_added(study)
    return [*tables, *beside, *([] if of_quality else response_tables(own, metric))]


def _of_settings(study: Study, metric: str) -> list[Table]:
    levelled = [f for f in study.factors if len(ordered_levels(study, f)) <= MOST_LEVELS]
    if len(study.factors) == 1 and levelled:
        return [_factor_table(study, study.factors[0], metric)]
    tables, own = [settings_table(study, metric)], without_added(study)
    on_grid = levelled if study.sampler == "grid" else []
    tables += [_factor_table(own, factor, metric) for factor in on_grid]
    ranged = [factor for factor in study.factors if factor not in on_grid]
    return [*tables, *([rank_table(own, ranged, metric)] if ranged else [])]


def _factor_table(study: Study, factor: Factor, metric: str) -> Table:
    return factor_table(study, factor, metric, compared=factor.key not in APART)


def _over_datasets(study: Study, over: Factor, metric: str) -> list[Table]:
    tables = dataset_tables(study, over, metric)
    others = [factor for factor in study.factors if factor != over]
    if not others:
        return [*tables, _factor_table(study, over, metric)]
    whole = averaged(without_added(study), over)
    if whole is not None and len(others) > 1:
        effects = (_factor_table(whole, factor, metric) for factor in whole.factors)
        tables += [dataclasses.replace(t, name=f"{AVERAGE}-{t.name}") for t in effects]
    names = datasets(study, over)
    for name in names:
        # The settings of one dataset: their main effects are in the averages above.
        first = _of_settings(one_dataset(study, over, name), metric)[0]
        first = dataclasses.replace(first, name=f"{name}-{first.name}")
        few = len(names) <= MOST_DATASETS
        tables.append(first if few else dataclasses.replace(first, place="files"))
    return tables
