"""How a metric goes with each factor of a sampled study, by ranks over settings."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reports.read import Factor, Study, heading
from reports.stats import (
    FEWEST_RANKED,
    Association,
    holm,
    is_rounding,
    rank_correlation,
    rank_groups,
    scale_of,
)
from reports.tables.groups import is_numeric, setting_groups
from reports.tables.model import (
    Cell,
    Column,
    PValue,
    Quantity,
    Ranged,
    Row,
    Table,
    Text,
    level_id,
)
from reports.tables.notes import chosen_by, table_notes, titled


def rank_table(study: Study, factors: Sequence[Factor], metric: str) -> Table:
    """How the metric goes with each factor, over the settings that finished.

    Args:
        study: with a sampler that draws settings.
        factors: a row each.
        metric: name of the test metric; a setting's value is its mean over seeds.
    """
    found, same = [], []
    for factor in factors:
        levels, values = _per_setting(study, factor, metric)
        # Seeded by nothing but the data's order: the same store gives the same table.
        rng = np.random.default_rng(0)
        if is_numeric(levels):
            found.append(rank_correlation([float(v) for v in levels], values, rng))
        else:
            found.append(rank_groups([level_id(v) for v in levels], values, rng))
        same.append(is_rounding(np.ptp(values or [0.0]), scale_of(values)))
    adjusted = holm([association.p for association in found])
    least = holm([association.least for association in found])
    rows = []
    for factor, association, p, low, flat in zip(
        factors, found, adjusted, least, same, strict=True
    ):
        cells: dict[str, Cell] = {"factor": Text(factor.key), "n": Quantity(association.n, 0)}
        if association.rho is not None:
            cells["rho"] = Ranged(association.rho)
        if p is not None:
            cells["p"] = PValue(p)
        if low is not None:
            cells["least"] = PValue(low)
        chosen = chosen_by(study.rows["selection"].to_list())
        rows.append(Row(cells, selection=chosen, unchanged=flat))
    columns = (
        Column("factor", "factor", "left"),
        Column("n", "settings"),
        Column("rho", f"Spearman ρ with {heading(study.protocol, metric)}"),
        Column("p", "Holm p"),
        Column("least", "least Holm p of any order", csv_only=True),
    )
    title = titled(study, "rank association", rows)
    notes = table_notes(study, rows, metric, kind="ranks", baseline=None)
    notes = (*notes, *_empty(study, found))
    return Table("ranks", title, columns, tuple(rows), notes, kind="ranks", metric=metric)


def _empty(study: Study, found: Sequence[Association]) -> list[str]:
    """Why there are dashes: too few settings finished, or they do not differ."""
    if all(association.p is not None for association in found):
        return []
    finished = max(association.n for association in found)
    if finished >= FEWEST_RANKED:
        return ["a dash: the factor, or the metric, is the same in all finished settings"]
    own = [setting for setting in study.settings if not setting.arm]
    stopped = sum(not group.done.height for group in setting_groups(study))
    return [
        f"a dash: {finished} of {len(own)} settings finished, ranks need {FEWEST_RANKED}"
        f" ({stopped} failed, were stopped early by the scheduler, or are missing)"
    ]


def _per_setting(study: Study, factor: Factor, metric: str) -> tuple[list[Any], list[float]]:
    """The factor's value and the metric's mean over seeds, of every finished setting with it."""
    levels: list[Any] = []
    values: list[float] = []
    for group in setting_groups(study):
        found = group.done[f"test/{metric}"].drop_nulls().to_list()
        if factor.key in group.value.assignment and found:
            levels.append(group.value.assignment[factor.key])
            values.append(sum(found) / len(found))
    return levels, values
