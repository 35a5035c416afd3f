"""Cautions about a study that apply to its answer as a whole."""

from collections.abc import Iterator, Sequence

from harness.store import COMPLETE
from harness.wording import count
from reports import tables
from reports.analysis import Design, compute_if_available, describe_uneven_noise, make_design
from reports.answer.comparisons import format_metric_name
from reports.cells import Table
from reports.formatting import join_names
from reports.study import Study

# With fewer seeds, the estimated standard deviation is unreliable, and so is the t-interval
# (docs/statistics.md).
MIN_SEEDS = 5
# With fewer classes, a bootstrap interval over classes is likely to miss losses that occur in only
# a few classes (docs/statistics.md).
MIN_CLASSES = 30


def find_cautions(study: Study, metric: str, study_tables: Sequence[Table]) -> Iterator[str]:
    """Yield the cautions of a study.

    Args:
        study: Study read from the store.
        metric: Metric of the answer.
        study_tables: Tables of the whole study, without those of single datasets.
    """
    yield from find_selection_cautions(study)
    yield from _find_baseline_cautions(study, study_tables)
    yield from find_absence_cautions(study)
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
        min_pairs = min(_list_pair_counts(study_tables), default=MIN_SEEDS)
        if min_pairs < MIN_SEEDS:
            yield f"A comparison has only {count(min_pairs, 'seed')}: its interval is rough."
    design = compute_if_available(make_design, study, metric)
    if design:
        yield from find_noise_cautions(design)
    class_counts = [
        row.comparison.n_classes for table in study_tables for row in table.rows if row.comparison
    ]
    # 0: the comparison has no interval over classes
    min_classes = min(filter(None, class_counts), default=MIN_CLASSES)
    if min_classes < MIN_CLASSES:
        yield (
            f"Some intervals over classes are based on only {min_classes} classes: they may miss a"
            " loss in a few classes."
        )


def find_selection_cautions(study: Study) -> Iterator[str]:
    """Yield cautions on selection with test images and on the demonstration backbone."""
    rules = tables.join_rules(study.rows["selection"].to_list())
    leaks = tables.list_test_image_rules(rules)
    if leaks:
        numbers = "the numbers" if "+".join(leaks) == rules else "the numbers selected this way"
        yield f"Selection used test images ({', '.join(leaks)}): {numbers} are too optimistic."
    if study.demonstration:
        yield "Demonstration backbone: this says nothing about CLIP."


def _find_baseline_cautions(study: Study, study_tables: Sequence[Table]) -> Iterator[str]:
    """Yield a caution if tables have no comparisons, because the baseline lacks results.

    A table by configuration and a table by level have different baselines, so that one may have
    comparisons while the other has none.
    """
    unfinished = [table for table in study_tables if _baseline_is_unfinished(table)]
    without_metric = [table for table in study_tables if _baseline_lacks_metric(table)]
    if any(row.comparison for table in study_tables for row in table.rows):
        names = [table.name for table in unfinished or without_metric]
        plural = "s" if len(names) > 1 else ""
        effect = f"nothing is compared with it in the table{plural} {join_names(names)}"
    else:
        effect = "nothing is compared with it"
    if unfinished:
        yield f"The baseline has not finished: {effect}."
    elif without_metric:
        metric_name = format_metric_name(study, without_metric[0].metric)
        yield f"The baseline has no {metric_name}: {effect}."


def find_absence_cautions(study: Study) -> Iterator[str]:
    """Yield a caution with the numbers of failed, pruned and missing results, if there are any."""
    absences = tables.group_all_rows(study).counts.absence_texts()
    if absences:
        yield f"Incomplete: {', '.join(absences)} of {len(study.rows)} planned results."


def find_noise_cautions(design: Design) -> Iterator[str]:
    """Yield a caution for each description of uneven noise; see describe_uneven_noise."""
    name = format_metric_name(design.study, design.metric)
    for description in describe_uneven_noise(design):
        yield f"{name} {description}: intervals and verdicts assume normal noise of equal size."


def _list_pair_counts(study_tables: Sequence[Table]) -> Iterator[int]:
    """Yield the number of paired seeds of each comparison in the answer.

    In a table of configurations, only controls count: the answer does not compare the other rows
    with the baseline.
    """
    for table in study_tables:
        for row in table.rows:
            comparison = row.comparison
            if comparison and (row.control or table.kind != "configurations"):
                yield comparison.difference.n


def _baseline_is_unfinished(table: Table) -> bool:
    """Return True if the table's baseline has no finished results, but other rows have."""
    baseline = table.baseline
    has_results = any(row.counts.finished for row in table.non_controls)
    return baseline is not None and not baseline.counts.finished and has_results


def _baseline_lacks_metric(table: Table) -> bool:
    """Return True if the baseline lacks the table's metric, but other rows have it."""
    baseline = table.baseline
    keys = [column.key for column in table.columns if column.metric == table.metric]
    if baseline is None or not table.metric or any(row.comparison for row in table.rows):
        return False
    return not any(key in baseline.cells for key in keys) and any(
        key in row.cells for row in table.non_controls for key in keys
    )
