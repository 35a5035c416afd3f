"""Cautions that weaken every finding of a study."""

from collections.abc import Iterator, Sequence

from harness.store import COMPLETE
from harness.wording import count
from reports import tables
from reports.analysis import compute_if_available, make_design, uneven_noise
from reports.answer.comparisons import metric_name
from reports.cells import Table
from reports.study import Study

# With fewer seeds, the standard deviation behind a t-interval is poorly known
# (docs/statistics.md).
MIN_SEEDS = 5


# With fewer classes, an interval over classes misses losses that few classes have
# (docs/statistics.md).
MIN_CLASSES = 30


def cautions(study: Study, metric: str, whole: Sequence[Table]) -> Iterator[str]:
    """Yield the cautions of a study, the most serious first.

    Args:
        study: Study read from the store.
        metric: Test metric of the answer.
        whole: Tables of the whole study.
    """
    rule = tables.join_rules(study.rows["selection"].to_list())
    if tables.on_test(rule):
        yield f"Selection used test images ({rule}): the numbers are too optimistic."
    if study.demonstration:
        yield "Demonstration backbone: this says nothing about CLIP."
    if any(map(_lacks_baseline, whole)):
        yield "The baseline has not finished: nothing is compared with it."
    elif any(map(_lacks_baseline_metric, whole)):
        name = metric_name(study, whole[0].metric)
        yield f"The baseline has no {name}: nothing is compared with it."
    absent = tables.all_rows(study).counts.absent()
    if absent:
        yield f"Incomplete: {', '.join(absent)} of {len(study.rows)} (configuration, seed) pairs."
    if study.untried:
        yield f"Incomplete: {count(study.untried, 'configuration')} not tried yet."
    seeds = study.rows.filter(state=COMPLETE)["seed"].n_unique()
    if not seeds:
        yield "Nothing has finished."
    elif seeds == 1:
        yield "Only 1 seed finished: there are no intervals."
    elif seeds < MIN_SEEDS:
        yield f"Only {count(seeds, 'seed')} finished: intervals are rough."
    else:
        fewest = min(_pair_counts(whole), default=MIN_SEEDS)
        if fewest < MIN_SEEDS:
            yield f"A comparison has only {count(fewest, 'seed')}: its interval is rough."
    yield from _noise_cautions(study, metric)
    classes = [row.compared.n_classes for t in whole for row in t.rows if row.compared]
    if fewest_classes := [number for number in classes if 0 < number < MIN_CLASSES]:
        yield (
            f"Intervals over classes are based on only {min(fewest_classes)} classes: they easily"
            " miss a loss in a few classes."
        )


def _noise_cautions(study: Study, metric: str) -> Iterator[str]:
    """Yield a caution per sign of uneven noise that no interval or verdict accounts for."""
    finished = compute_if_available(make_design, study, metric)
    name = metric_name(study, metric)
    for place in uneven_noise(finished) if finished else ():
        yield f"{name} {place}: intervals and verdicts do not account for rare large losses."


def _pair_counts(compared: Sequence[Table]) -> Iterator[int]:
    """Yield the number of seeds of each comparison in the answer."""
    for table in compared:
        for row in table.rows:
            comparison = row.compared
            if comparison and (row.control or table.kind != "configurations"):
                yield comparison.difference.n


def _lacks_baseline(table: Table) -> bool:
    """Return True if a table has results, but its baseline has none."""
    base = table.baseline
    finished = any(row.counts.done for row in table.non_controls)
    return base is not None and not base.counts.done and finished


def _lacks_baseline_metric(table: Table) -> bool:
    """Return True if the baseline lacks the metric that a table compares and other rows have it."""
    base, keys = (
        table.baseline,
        [column.key for column in table.columns if column.metric == table.metric],
    )
    if base is None or not table.metric or any(row.compared for row in table.rows):
        return False
    return not any(key in base.cells for key in keys) and any(
        key in row.cells for row in table.non_controls for key in keys
    )
