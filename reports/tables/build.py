"""A study's tables in reading order."""

import dataclasses
from collections.abc import Iterator

from harness.store import CONTROLS, FINETUNER_ALONE, QUALITY
from reports.cells import AVERAGE, Table, versus_key
from reports.study import Study
from reports.tables.associations import rank_table, response_tables
from reports.tables.comparison import comparison_table
from reports.tables.controls import factors_of_control
from reports.tables.external import add_external_groups, add_external_note
from reports.tables.families import level_family, list_families, method_family
from reports.tables.groups import control_groups
from reports.tables.metric import resolve_metric
from reports.tables.over_datasets import (
    DATASET,
    average_over_datasets,
    dataset_of_controls,
    factors_without_dataset,
    list_datasets,
    one_dataset,
)
from reports.tables.selection_tables import quality_tables, selection_tables

# With more datasets than this, the tables of single datasets are not shown in the terminal.
MAX_DATASETS = 3


def build_tables(study: Study, metric: str | None = None) -> list[Table]:
    """Return all tables of a study.

    - One factor with levels: its ablation table.
    - Several factors on a grid: all configurations, then each factor's main effects.
    - A sampled study, or a range: the best configurations, then rank associations.
    - A grid over datasets: a row per method with its results on each dataset and their average,
      then the main effects of several other factors on the averages, then a table per dataset.

    The last tables show what selection chose, the quality of synthetic features, and the
    association of the metric with that quality.

    Args:
        study: Study read from the store.
        metric: Test metric or quality measure to compare. Defaults to the protocol's main metric.

    Raises:
        ReportError: If the study has no such metric.
    """
    study, metric = resolve_metric(study, metric)
    comparison_tables = _tables_over_datasets if list_datasets(study) else _configuration_tables
    tables = [
        *comparison_tables(study, metric),
        *selection_tables(study),
        *quality_tables(study),
    ]
    is_quality = metric.startswith(QUALITY)
    return tables if is_quality else [*tables, *response_tables(study, metric)]


def _configuration_tables(study: Study, metric: str) -> Iterator[Table]:
    """Yield the comparisons of one dataset, then rank associations of factors without a table."""
    families = list(list_families(study, metric))
    first, *rest = families
    yield add_external_note(study, comparison_table(add_external_groups(first)))
    yield from map(comparison_table, rest)
    names = {family.name for family in families}
    other_factors = [factor for factor in study.factors if factor.key not in names]
    if other_factors:
        yield rank_table(study, other_factors, metric)


def _tables_over_datasets(study: Study, metric: str) -> Iterator[Table]:
    """Yield the tables of a study over datasets.

    The controls ran on one dataset. A note explains why a table has no column of differences to the
    fine-tuner alone.
    """
    control_factors = [key for key in factors_of_control(study, FINETUNER_ALONE) if key != DATASET]
    is_controlled = any(control.control == FINETUNER_ALONE for control in control_groups(study))
    for table in _dataset_tables(study, metric):
        is_of_control_factor = table.name.endswith(tuple(control_factors))
        has_levels = table.kind in ("methods", "configurations") or is_of_control_factor
        lacks_column = versus_key(FINETUNER_ALONE) not in {column.key for column in table.columns}
        if control_factors and is_controlled and has_levels and lacks_column:
            dataset = dataset_of_controls(study)
            column = f"vs {CONTROLS[FINETUNER_ALONE][0]}"
            note = f"no column {column}: the controls ran only on {dataset}; see its table"
            table = dataclasses.replace(table, notes=(*table.notes, note))
        yield table


def _dataset_tables(study: Study, metric: str) -> Iterator[Table]:
    """Yield the table of methods, the main effects on the averages, and a table per dataset."""
    methods = add_external_groups(method_family(study, metric))
    yield add_external_note(study, comparison_table(methods))
    other_factors = factors_without_dataset(study)
    if not other_factors:
        yield from _configuration_tables(study, metric)
        return
    averaged_study = average_over_datasets(study)
    if averaged_study is not None and len(other_factors) > 1:
        for factor in averaged_study.factors:
            table = comparison_table(level_family(averaged_study, factor, metric))
            yield dataclasses.replace(table, name=f"{AVERAGE}-{table.name}")
    names = list_datasets(study)
    for name in names:
        # Only the first table of each dataset: main effects are in the averages above.
        first = next(_configuration_tables(one_dataset(study, name), metric))
        place = first.place if len(names) <= MAX_DATASETS else "files"
        yield dataclasses.replace(first, name=f"{name}-{first.name}", place=place)
