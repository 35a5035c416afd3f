"""Cautions that weaken every finding of a study."""

from collections.abc import Iterator, Sequence

from harness.store import COMPLETE
from harness.wording import count
from reports import tables
from reports.analysis import compute_if_available, describe_uneven_noise, make_design
from reports.answer.comparisons import metric_name
from reports.cells import Table
from reports.study import Study

# With fewer seeds, the standard deviation behind a t-interval is poorly known
# (docs/statistics.md).
MIN_SEEDS = 5
# With fewer classes, an interval over classes misses losses that few classes have
# (docs/statistics.md).
MIN_CLASSES = 30


def find_cautions(study: Study, metric: str, study_tables: Sequence[Table]) -> Iterator[str]:
    """Yield the cautions of a study, the most serious first.

    Args:
        study: Study read from the store.
        metric: Test metric of the answer.
        study_tables: Tables of the whole study.
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
    seeds = study.rows.filter(state=COMPLETE)["seed"].n_unique()
    if not seeds:
        yield "Nothing has finished."
    elif seeds == 1:
        yield "Only 1 seed finished: there are no intervals."
    elif seeds < MIN_SEEDS:
        yield f"Only {count(seeds, 'seed')} finished: intervals are rough."
    else:
        min_pairs = min(_pair_counts(study_tables), default=MIN_SEEDS)
        if min_pairs < MIN_SEEDS:
            yield f"A comparison has only {count(min_pairs, 'seed')}: its interval is rough."
    yield from _noise_cautions(study, metric)
    classes = [row.comparison.n_classes for t in study_tables for row in t.rows if row.comparison]
    if class_counts := [number for number in classes if 0 < number < MIN_CLASSES]:
        yield (
            f"Intervals over classes are based on only {min(class_counts)} classes: they easily"
            " miss a loss in a few classes."
        )


def _noise_cautions(study: Study, metric: str) -> Iterator[str]:
    """Yield a caution per kind of uneven noise, which intervals and verdicts do not account for."""
    design = compute_if_available(make_design, study, metric)
    name = metric_name(study, metric)
    for description in describe_uneven_noise(design) if design else ():
        yield f"{name} {description}: intervals and verdicts do not account for rare large losses."


def _pair_counts(study_tables: Sequence[Table]) -> Iterator[int]:
    """Yield the number of seeds of each comparison in the answer."""
    for table in study_tables:
        for row in table.rows:
            comparison = row.comparison
            if comparison and (row.control or table.kind != "configurations"):
                yield comparison.difference.n


def _lacks_baseline(table: Table) -> bool:
    """Return True if a table has results, but its baseline has none."""
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
