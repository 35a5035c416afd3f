"""External results in a study's first table, compared with its baseline where seeds agree."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from harness.store import COMPLETE
from reports.cells import EXTERNAL, EXTERNAL_MARK, Table, Text
from reports.study import Study
from reports.tables.families import Family
from reports.tables.groups import Group

MIN_COMMON_SEEDS = 2


def add_external_groups(family: Family) -> Family:
    """Return a family with a group per external configuration, below its controls.

    A group that shares at least MIN_COMMON_SEEDS finished seeds with the baseline is compared with
    the baseline, and its test is corrected together with those of the table.

    Args:
        family: Family of the study's first table.
    """
    groups = external_groups(family.study)
    if not groups:
        return family
    column, baseline = f"test/{family.metric}", family.baseline
    baseline_seeds = baseline.seeds(column).keys() if baseline else set[int]()
    pairs = dict(family.pairs)
    for group in groups:
        common = group.seeds(column).keys() & baseline_seeds
        if baseline and family.is_comparable and len(common) >= MIN_COMMON_SEEDS:
            pairs[group] = (group, baseline)
    return dataclasses.replace(family, groups=[*family.groups, *groups], pairs=pairs)


def external_groups(study: Study) -> list[Group]:
    """Return a group per external configuration of a study."""
    groups = []
    for name, by_seed in study.external.values.items():
        label = Text(f"{name} {EXTERNAL_MARK}", name)
        rows = [_row(name, seed, metrics) for seed, metrics in sorted(by_seed.items())]
        groups.append(Group((label,), rows, control=EXTERNAL))
    return groups


def _row(name: str, seed: int, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return the finished row of a seed, without selection and without a run."""
    return {
        "config_key": f"{EXTERNAL}:{name}",
        "seed": seed,
        "state": COMPLETE,
        "selection": None,
        "run_id": None,
        **{f"test/{metric}": value for metric, value in metrics.items()},
    }


def external_note(study: Study, table: Table) -> Table:
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
