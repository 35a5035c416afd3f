"""Cautions: what weakens every finding of a study."""

from collections.abc import Iterator, Sequence

from harness.store import COMPLETE
from harness.wording import count
from reports import tables
from reports.analysis import available, layout, uneven_noise
from reports.answer.comparisons import metric_name
from reports.cells import Table
from reports.study import Study

# With fewer, a t-interval rests on a deviation that is hardly known (docs/statistics.md).
FEWEST_SEEDS = 5


# With fewer, an interval over classes misses losses that few classes have (docs/statistics.md).
FEWEST_CLASSES = 30


def cautions(study: Study, metric: str, whole: Sequence[Table]) -> Iterator[str]:
    """Yield the cautions of a study, the gravest first.

    Args:
        study: whose answer it is.
        metric: Test metric of the answer.
        whole: its tables that are of all of it.
    """
    rule = tables.chosen_by(study.rows["selection"].to_list())
    if tables.on_test(rule):
        yield f"Selected on test data ({rule}), which flatters the numbers."
    if study.demonstration:
        yield "Demonstration backbone: this says nothing about CLIP."
    if any(map(_without_baseline, whole)):
        yield "The baseline has not finished: nothing is compared with it."
    elif any(map(_unmeasured_baseline, whole)):
        name = metric_name(study, whole[0].metric)
        yield f"The baseline has no {name}: nothing is compared with it."
    lacking = tables.all_rows(study).counts.absent()
    lacking += [f"{study.untried} settings not tried yet"] if study.untried else []
    if lacking:
        yield f"Not answered in full: of {len(study.rows)} rows, {', '.join(lacking)}."
    seeds = study.rows.filter(state=COMPLETE)["seed"].n_unique()
    if not seeds:
        yield "Nothing has finished."
    elif seeds == 1:
        yield "Only 1 seed finished: there are no intervals."
    elif seeds < FEWEST_SEEDS:
        yield f"Only {count(seeds, 'seed')} finished: intervals are rough."
    else:
        fewest = min(_pairs(whole), default=FEWEST_SEEDS)
        if fewest < FEWEST_SEEDS:
            yield f"A comparison has only {count(fewest, 'seed')}: intervals of so few are rough."
    yield from _of_noise(study, metric)
    classes = [row.compared.n_classes for t in whole for row in t.rows if row.compared]
    if fewest_classes := [number for number in classes if 0 < number < FEWEST_CLASSES]:
        yield (
            f"Intervals over classes rest on {min(fewest_classes)} classes: a loss that few classes"
            " have is easily missed."
        )


def _of_noise(study: Study, metric: str) -> Iterator[str]:
    """Yield what the noise of a study looks like that no interval or verdict allows for."""
    found = available(layout, study, metric)
    name = metric_name(study, metric)
    for place in uneven_noise(found) if found else ():
        yield f"{name} {place}: no interval or verdict allows for losses that few seeds have."


def _pairs(compared: Sequence[Table]) -> Iterator[int]:
    """Yield the number of seeds of each comparison in an answer."""
    for table in compared:
        for row in table.rows:
            one = row.compared
            if one and (row.arm or table.kind != "settings"):
                yield one.difference.n


def _without_baseline(table: Table) -> bool:
    """Return True if a table has results, and its baseline has none."""
    base = table.baseline
    finished = any(row.counts.done for row in table.own)
    return base is not None and not base.counts.done and finished


def _unmeasured_baseline(table: Table) -> bool:
    """Return True if a table compares by a metric that its baseline lacks and other rows have."""
    base, of = table.baseline, [one.key for one in table.columns if one.metric == table.metric]
    if base is None or not table.metric or any(row.compared for row in table.rows):
        return False
    return not any(key in base.cells for key in of) and any(
        key in row.cells for row in table.own for key in of
    )
