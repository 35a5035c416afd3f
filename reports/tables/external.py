"""External results in a study's tables, compared with its baseline where seeds agree."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from harness.store import COMPLETE
from reports.cells import EXTERNAL, EXTERNAL_MARK, Table, Text
from reports.study import Study
from reports.tables.families import Family
from reports.tables.groups import Group
from reports.tables.over_datasets import list_datasets, method_group, restrict_to_common_datasets

MIN_COMMON_SEEDS = 2


def add_external_groups(family: Family) -> Family:
    """Return a family with a group per external configuration, below its controls.

    A group that shares at least MIN_COMMON_SEEDS finished seeds with the baseline is compared with
    the baseline, and its test is corrected together with those of the table. Averages are compared
    over the datasets that both have.

    Args:
        family: Family of the first table of a dataset, or of the table of methods over datasets.
    """
    study, column, baseline = family.study, f"test/{family.metric}", family.baseline
    groups = _method_groups(study) if family.kind == "methods" else _groups(study)
    pairs = dict(family.pairs)
    for group in groups:
        if not baseline or not family.is_comparable:
            continue
        pair: tuple[Group, Group] | None = (group, baseline)
        if family.kind == "methods":
            pair = restrict_to_common_datasets(study, group, baseline)
        if (
            pair
            and len(pair[0].values_by_seed(column).keys() & pair[1].values_by_seed(column))
            >= MIN_COMMON_SEEDS
        ):
            pairs[group] = pair
    strata = {
        row["config_key"]: dataset
        for group in groups
        for dataset, part in group.parts.items()
        for row in part.rows
    }
    return dataclasses.replace(
        family,
        groups=[*family.groups, *groups],
        pairs=pairs,
        strata={**family.strata, **strata},
    )


def _count_common_seeds(first: Group, second: Group, column: str) -> int:
    """Return the number of seeds under which both groups have a value of a column."""
    return len(first.values_by_seed(column).keys() & second.values_by_seed(column).keys())


def _groups(study: Study) -> list[Group]:
    """Return a group per external configuration of a study of one dataset."""
    return [
        Group((_label(name),), _rows("", name, by_seed), control=EXTERNAL)
        for name, by_seed in study.external.values.get("", {}).items()
    ]


def _method_groups(study: Study) -> list[Group]:
    """Return a group per external configuration of a study over datasets, with its averages."""
    parts: dict[str, dict[str, Group]] = {}  # name -> dataset -> group
    for dataset in list_datasets(study):  # in the order of the study
        for name, by_seed in study.external.values.get(dataset, {}).items():
            group = Group((), _rows(dataset, name, by_seed), control=EXTERNAL)
            parts.setdefault(name, {})[dataset] = group
    return [
        method_group(study, (_label(name),), f"{EXTERNAL}:{name}", by_dataset, control=EXTERNAL)
        for name, by_dataset in parts.items()
    ]


def _label(name: str) -> Text:
    """Return the label of an external configuration."""
    return Text(f"{name} {EXTERNAL_MARK}", name)


def _rows(
    dataset: str, name: str, by_seed: Mapping[int, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Return the rows of a configuration on a dataset, one per seed."""
    key = f"{EXTERNAL}:{dataset}:{name}"
    return [_row(key, seed, metrics) for seed, metrics in sorted(by_seed.items())]


def _row(key: str, seed: int, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return the finished row of a seed, without selection and without a run."""
    return {
        "config_key": key,
        "seed": seed,
        "protocol": None,
        "state": COMPLETE,
        "selection": None,
        "run_id": None,
        **{f"test/{metric}": value for metric, value in metrics.items()},
    }


def add_external_note(study: Study, table: Table) -> Table:
    """Return a table with a note on its external rows; the unchanged table if it has none."""
    if not any(row.control == EXTERNAL for row in table.rows):
        return table
    note = (
        f"{EXTERNAL_MARK} external results of {study.external.file}: their data, seeds and code"
        " were not checked. They are paired with the baseline by seed number if they share at least"
        f" {MIN_COMMON_SEEDS} seeds, and corrected with the table's other comparisons; a dash:"
        " fewer common seeds"
    )
    return dataclasses.replace(table, notes=(note, *table.notes))
