"""Rows with external results in a study's tables, and their comparison with the baseline."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from harness.store import COMPLETE
from reports.cells import EXTERNAL, EXTERNAL_MARK, Table, Text
from reports.study import Study
from reports.tables.family import Family
from reports.tables.group import Group
from reports.tables.over_datasets import (
    list_datasets,
    make_method_group,
    restrict_to_common_datasets,
)

MIN_COMMON_SEEDS = 2  # minimum number of common seeds for a comparison with the baseline


def add_external_groups(family: Family) -> Family:
    """Add a group per external configuration to a family, below its controls.

    A group is compared with the baseline if both have at least MIN_COMMON_SEEDS seeds in common.
    Averages over datasets are compared on the datasets that both have. The tests are corrected
    together with the other tests of the family.

    Args:
        family: Family of the first table of a study, of a single dataset, or of methods.

    Returns:
        A copy of the family with the groups.
    """
    study, column, baseline = family.study, f"test/{family.metric}", family.baseline
    groups = (
        _make_method_groups(study)
        if family.kind == "methods"
        else _make_configuration_groups(study)
    )
    pairs = dict(family.pairs)
    for group in groups:
        if not baseline or not family.is_comparable:
            continue
        pair: tuple[Group, Group] | None = (group, baseline)
        if family.kind == "methods":
            pair = restrict_to_common_datasets(study, group, baseline)
        if pair and _count_common_seeds(*pair, column) >= MIN_COMMON_SEEDS:
            pairs[group] = pair
    dataset_by_key = {
        row["config_key"]: dataset
        for group in groups
        for dataset, part in group.parts.items()
        for row in part.rows
    }
    return dataclasses.replace(
        family,
        groups=[*family.groups, *groups],
        pairs=pairs,
        strata={**family.strata, **dataset_by_key},
    )


def _count_common_seeds(group: Group, baseline: Group, column: str) -> int:
    """Return the number of seeds under which both groups have a value of a column."""
    return len(group.values_by_seed(column).keys() & baseline.values_by_seed(column).keys())


def _make_configuration_groups(study: Study) -> list[Group]:
    """Return a group per external configuration, in a study with a single dataset."""
    return [
        Group((_label(name),), _rows("", name, by_seed), control=EXTERNAL)
        for name, by_seed in study.external.values.get("", {}).items()
    ]


def _make_method_groups(study: Study) -> list[Group]:
    """Return a group per external configuration, with averages, in a study over datasets."""
    parts: dict[str, dict[str, Group]] = {}  # name -> dataset -> group
    for dataset in list_datasets(study):  # the study's order, not the file's
        for name, by_seed in study.external.values.get(dataset, {}).items():
            group = Group((), _rows(dataset, name, by_seed), control=EXTERNAL)
            parts.setdefault(name, {})[dataset] = group
    return [
        make_method_group(
            study, (_label(name),), f"{EXTERNAL}:{name}", by_dataset, control=EXTERNAL
        )
        for name, by_dataset in parts.items()
    ]


def _label(name: str) -> Text:
    """Return the label cell of an external configuration: its name with EXTERNAL_MARK."""
    return Text(f"{name} {EXTERNAL_MARK}", name)


def _rows(
    dataset: str, name: str, by_seed: Mapping[int, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Return the rows of a configuration on a dataset, one per seed.

    Args:
        dataset: Name of the dataset. "" if the study has only one.
        name: Name of the external configuration.
        by_seed: Seed -> metric -> percentage.
    """
    key = f"{EXTERNAL}:{dataset}:{name}"
    return [_row(key, seed, metrics) for seed, metrics in sorted(by_seed.items())]


def _row(key: str, seed: int, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return a seed's row in state COMPLETE, without a selection rule and without a run."""
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
    """Add a note on external rows to a table; return it unchanged if it has no such rows."""
    if not any(row.control == EXTERNAL for row in table.rows):
        return table
    note = (
        f"{EXTERNAL_MARK} external results of {study.external.file}: their data, seeds and code"
        " were not checked. They are paired with the baseline by seed number if they share at least"
        f" {MIN_COMMON_SEEDS} seeds, and corrected with the table's other comparisons; a dash:"
        " fewer common seeds"
    )
    return dataclasses.replace(table, notes=(note, *table.notes))
