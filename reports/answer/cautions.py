"""Cautions that weaken every finding of a study."""

from collections.abc import Iterator, Sequence

from harness.store import COMPLETE
from harness.wording import count
from reports import tables
from reports.analysis import compute_if_available, describe_uneven_noise, make_design
from reports.answer.comparisons import metric_name
from reports.cells import Table
from reports.study import Study

# With fewer seeds, the standard deviation and so the t-interval are rough (docs/statistics.md).
MIN_SEEDS = 5
# With fewer classes, an interval over classes easily misses losses that only few classes have
# (docs/statistics.md).
MIN_CLASSES = 30


def find_cautions(study: Study, metric: str, study_tables: Sequence[Table]) -> Iterator[str]:
    """Yield the cautions of a study, the most serious first.

    Args:
        study: Study read from the store.
        metric: Metric of the answer.
        study_tables: Tables of the whole study, without those of single datasets.
    """
    rule = tables.join_rules(study.rows["selection"].to_list())
    if tables.uses_test_images(rule):
        yield f"Selection used test images ({rule}): the numbers are too optimistic."
    if study.demonstration:
        yield "Demonstration backbone: this says nothing about CLIP."
    if any(map(_lacks_baseline, study_tables)):
        yield "The baseline has not finished: nothing is compared with it."
    elif any(map(_lacks_baseline_metric, study_tables)):
        name = metric_name(study, study_tables[0].metric)
        yield f"The baseline has no {name}: nothing is compared with it."
    absences = tables.all_rows(study).counts.absence_texts()
    if absences:
        yield f"Incomplete: {', '.join(absences)} of {len(study.rows)} (configuration, seed) pairs."
    if study.n_untried:
        yield f"Incomplete: {count(study.n_untried, 'configuration')} not tried yet."
    n_seeds = study.rows.filter(state=COMPLETE)["seed"].n_unique()
    if not n_seeds:
        yield "Nothing has finished."
    elif n_seeds == 1:
        yield "Only 1 seed finished: there are no intervals."
    elif n_seeds < MIN_SEEDS:
        yield f"Only {count(n_seeds, 'seed')} finished: intervals are rough."
    else:
        min_pairs = min(_count_pairs(study_tables), default=MIN_SEEDS)
        if min_pairs < MIN_SEEDS:
            yield f"A comparison has only {count(min_pairs, 'seed')}: its interval is rough."
    yield from _find_noise_cautions(study, metric)
    class_counts = [
        row.comparison.n_classes for table in study_tables for row in table.rows if row.comparison
    ]
    # 0: the comparison has no interval over classes
    min_classes = min(filter(None, class_counts), default=MIN_CLASSES)
    if min_classes < MIN_CLASSES:
        yield (
            f"Intervals over classes are based on only {min_classes} classes: they easily miss a"
            " loss in a few classes."
        )


def _find_noise_cautions(study: Study, metric: str) -> Iterator[str]:
    """Yield a caution per kind of uneven noise in the study's results."""
    design = compute_if_available(make_design, study, metric)
    name = metric_name(study, metric)
    for description in describe_uneven_noise(design) if design else ():
        yield f"{name} {description}: intervals and verdicts do not account for rare large losses."


def _count_pairs(study_tables: Sequence[Table]) -> Iterator[int]:
    """Yield the number of paired seeds of each comparison in the answer.

    Tables of configurations are in the answer only with their controls.
    """
    for table in study_tables:
        for row in table.rows:
            comparison = row.comparison
            if comparison and (row.control or table.kind != "configurations"):
                yield comparison.difference.n


def _lacks_baseline(table: Table) -> bool:
    """Return True if the table's baseline has not finished, but other rows have."""
    baseline = table.baseline
    has_results = any(row.counts.finished for row in table.non_controls)
    return baseline is not None and not baseline.counts.finished and has_results


def _lacks_baseline_metric(table: Table) -> bool:
    """Return True if the baseline lacks the table's metric, but other rows have it."""
    baseline = table.baseline
    keys = [column.key for column in table.columns if column.metric == table.metric]
    if baseline is None or not table.metric or any(row.comparison for row in table.rows):
        return False
    return not any(key in baseline.cells for key in keys) and any(
        key in row.cells for row in table.non_controls for key in keys
    )
