"""All tables of a study, in the order in which a report shows them."""

import dataclasses
from collections.abc import Iterator

from harness.store import CONTROLS, FINETUNER_ALONE, QUALITY
from reports.cells import AVERAGE, Table, make_versus_key
from reports.study import Study
from reports.tables.associations import make_response_tables, rank_table
from reports.tables.comparison import make_comparison_table
from reports.tables.controls import get_factors_of_control
from reports.tables.external import add_external_groups, add_external_note
from reports.tables.families import list_families, make_level_family, make_method_family
from reports.tables.groups import make_control_groups
from reports.tables.metric import resolve_metric
from reports.tables.over_datasets import (
    DATASET,
    average_over_datasets,
    get_dataset_of_controls,
    get_factors_without_dataset,
    list_datasets,
    restrict_to_dataset,
)
from reports.tables.selection_tables import make_quality_tables, make_selection_tables

# In studies with more datasets than this, the terminal does not show the tables of each dataset.
MAX_DATASETS = 3


def build_tables(study: Study, metric: str | None = None) -> list[Table]:
    """Return all tables of a study.

    The first tables depend on the study:

    - A single factor: a table of its levels.
    - A grid over several factors: a table of all configurations, then a table of each factor's main
      effects.
    - A sampled study: a table of the best configurations, then rank associations of the factors.
    - A grid over datasets: a table of methods with their results on each dataset and on average;
      if there are several other factors, their main effects on the averages; then a table per
      dataset.

    Factors with many levels have rank associations instead of a table; see list_families.

    The last tables show the values that selection chose, the quality of synthetic features, and the
    association of the metric with that quality.

    Args:
        study: Study read from the store.
        metric: Name or heading of a test metric or quality measure to compare. Defaults to the
            protocol's main metric.

    Raises:
        ReportError: If the study has no such metric.
    """
    study, metric = resolve_metric(study, metric)
    comparison_tables = (
        _build_tables_over_datasets if list_datasets(study) else _build_configuration_tables
    )
    tables = [
        *comparison_tables(study, metric),
        *make_selection_tables(study),
        *make_quality_tables(study),
    ]
    is_quality = metric.startswith(QUALITY)
    return tables if is_quality else [*tables, *make_response_tables(study, metric)]


def _build_configuration_tables(study: Study, metric: str) -> Iterator[Table]:
    """Yield a table per family of a study with one dataset, then the other factors' ranks."""
    families = list(list_families(study, metric))
    first, *rest = families
    yield add_external_note(study, make_comparison_table(add_external_groups(first)))
    yield from map(make_comparison_table, rest)
    names = {family.name for family in families}
    factors_without_table = [factor for factor in study.factors if factor.key not in names]
    if factors_without_table:
        yield rank_table(study, factors_without_table, metric)


def _build_tables_over_datasets(study: Study, metric: str) -> Iterator[Table]:
    """Yield the tables of a study over datasets.

    The controls ran on a single dataset, so only that dataset's table can have a column of
    differences to the fine-tuner alone. Other tables whose rows differ in a factor that affects
    this control get a note that the column is absent.
    """
    control_factors = [
        key for key in get_factors_of_control(study, FINETUNER_ALONE) if key != DATASET
    ]
    has_control = any(control.control == FINETUNER_ALONE for control in make_control_groups(study))
    for table in _build_dataset_tables(study, metric):
        # The name ends with the key of the factor if the rows are levels.
        has_control_factor = table.kind in ("methods", "configurations") or table.name.endswith(
            tuple(control_factors)
        )
        lacks_column = make_versus_key(FINETUNER_ALONE) not in {
            column.key for column in table.columns
        }
        if control_factors and has_control and has_control_factor and lacks_column:
            dataset = get_dataset_of_controls(study)
            column = f"vs {CONTROLS[FINETUNER_ALONE][0]}"
            note = f"no column {column}: the controls ran only on {dataset}; see its table"
            table = dataclasses.replace(table, notes=(*table.notes, note))
        yield table


def _build_dataset_tables(study: Study, metric: str) -> Iterator[Table]:
    """Yield the table of methods, the main effects on averages, and a table per dataset.

    If the dataset is the only factor, the other tables are those of a study with one dataset.
    """
    methods = add_external_groups(make_method_family(study, metric))
    yield add_external_note(study, make_comparison_table(methods))
    other_factors = get_factors_without_dataset(study)
    if not other_factors:
        yield from _build_configuration_tables(study, metric)
        return
    averaged_study = average_over_datasets(study)
    if averaged_study is not None and len(other_factors) > 1:
        for factor in averaged_study.factors:
            table = make_comparison_table(make_level_family(averaged_study, factor, metric))
            yield dataclasses.replace(table, name=f"{AVERAGE}-{table.name}")
    names = list_datasets(study)
    for name in names:
        # only the first table, because main effects are shown for the averages
        first = next(_build_configuration_tables(restrict_to_dataset(study, name), metric))
        place = first.place if len(names) <= MAX_DATASETS else "files"
        yield dataclasses.replace(first, name=f"{name}-{first.name}", place=place)
