"""What a run has changed in a study's table: rows that came, left, and moved."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reports.contract import printable
from reports.read import Study, heading
from reports.tables.formatting import number
from reports.tables.groups import arm_groups, first_rows, spelled
from reports.tables.metric import decimals_of, with_metric

MOST_CHANGES = 10


@dataclass(frozen=True)
class Standing:
    """Where a row of a table stands: its finished rows (one a seed) and their mean."""

    n: int
    mean: float


def standings(study: Study, metric: str) -> dict[str, Standing]:
    """Rows of the study's first table in its order, by their labels in words: "n_ctx 8".

    Args:
        study: whose levels or settings, and reference arms, these are.
        metric: a test metric; a row without it, or without a finished seed, is left out.
    """
    groups, labels = first_rows(study, arm_groups(study))
    found: dict[str, Standing] = {}
    for group in groups:
        values = group.seeds(f"test/{metric}")
        if values:
            mean = sum(values.values()) / len(values)
            found[spelled(group, labels) or "constants"] = Standing(len(group.done), mean)
    return found


def changed_rows(
    before: Mapping[str, Standing], after: Mapping[str, Standing], decimals: int = 1
) -> list[str]:
    """A line for each row that came, moved or left, in this order.

    A row has moved where its mean or its number of seeds is another than before.

    Args:
        before, after: see standings.
        decimals: of the means.
    """

    def shown(row: Standing) -> str:
        return f"{number(row.mean, decimals)} (n {row.n})"

    def lines() -> Iterator[str]:
        yield from (f"new: {name}: {shown(after[name])}" for name in after if name not in before)
        for name in after:
            if name in before and shown(before[name]) != shown(after[name]):
                yield f"moved: {name}: {shown(before[name])} -> {shown(after[name])}"
        yield from (f"left: {name}: {shown(before[name])}" for name in before if name not in after)

    return list(lines())


def change_lines(before: Study, after: Study) -> list[str]:
    """What is said of a run that has changed the table; [] where it has changed no row.

    Args:
        before, after: the study as it stood before the run and as it stands now.
    """
    _, metric = with_metric(after, None)
    decimals = decimals_of(after, metric)
    rows = changed_rows(standings(before, metric), standings(after, metric), decimals)
    if not rows:
        return []
    more = len(rows) - MOST_CHANGES
    rest = [f"and {more} more"] if more > 0 else []
    title = f"since the last run ({heading(after.protocol, metric)}):"
    return [title, *(f"  {printable(line)}" for line in [*rows[:MOST_CHANGES], *rest])]
