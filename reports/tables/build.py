"""A study's tables in reading order."""

import dataclasses
from collections.abc import Iterator

from reports.contract import QUALITY
from reports.read import Study
from reports.tables.associations import rank_table, response_tables
from reports.tables.beside import quality_tables, selection_tables
from reports.tables.compared import ablation_table, dataset_tables
from reports.tables.families import families, level_family
from reports.tables.metric import with_metric
from reports.tables.model import AVERAGE, Table
from reports.tables.pooling import averaged, beside_dataset, datasets, one_dataset, without_added

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
    made = (_over_datasets if datasets(study) else _of_settings)(study, metric)
    beside = [*selection_tables(study), *quality_tables(study)]
    of_quality = metric.startswith(QUALITY)
    own = without_added(study)
    return [*made, *beside, *([] if of_quality else response_tables(own, metric))]


def _of_settings(study: Study, metric: str) -> Iterator[Table]:
    found = list(families(study, metric))
    yield from map(ablation_table, found)
    held = {family.name for family in found}
    ranged = [factor for factor in study.factors if factor.key not in held]
    if ranged:
        yield rank_table(without_added(study), ranged, metric)


def _over_datasets(study: Study, metric: str) -> Iterator[Table]:
    yield from dataset_tables(study, metric)
    others = beside_dataset(study)
    if not others:
        yield from _of_settings(study, metric)
        return
    whole = averaged(without_added(study))
    if whole is not None and len(others) > 1:
        for factor in whole.factors:
            table = ablation_table(level_family(whole, factor, metric))
            yield dataclasses.replace(table, name=f"{AVERAGE}-{table.name}")
    names = datasets(study)
    for name in names:
        # The settings of one dataset: their main effects are in the averages above.
        first = next(_of_settings(one_dataset(study, name), metric))
        place = first.place if len(names) <= MOST_DATASETS else "files"
        yield dataclasses.replace(first, name=f"{name}-{first.name}", place=place)
