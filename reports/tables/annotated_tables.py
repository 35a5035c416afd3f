"""Make tables with the notes below them, which explain the numbers to the reader."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.store import CONTROLS, CORRECT_FILE, FAIL, FINETUNER_ALONE, FLAGS, QUALITY
from harness.wording import count
from reports.cells import EXTERNAL, MARK, Column, Legend, Row, Table, Value, get_cells
from reports.formatting import join_names
from reports.stats import DRAWS
from reports.study import Study
from reports.tables.family import Family
from reports.tables.group import Group
from reports.tables.groups import format_group_name, group_all_rows, join_rules
from reports.tables.metric import MEASURES

COUNTS_COLUMN = Column("n", "n", lambda group: group.counts)
TEST_IMAGE_RULES = frozenset({"test", "authors"})  # selection rules that use test images
# Params that a note lists if all configurations have the same value.
_SETUP_PARAMS = (
    "dataset", "split_version", "targets", "max_classes", "unseen_class", "backbone", "protocol",
    "shots", "finetuner.name", "generator.name",
)  # fmt: skip


def list_test_image_rules(selection: str) -> list[str]:
    """Return those of the selection rules that use test images, in alphabetical order.

    Args:
        selection: Selection rules, joined by "+"; see join_rules.
    """
    return sorted(TEST_IMAGE_RULES.intersection(selection.split("+")))


def uses_test_images(selection: str) -> bool:
    """Return True if any of the selection rules, joined by "+", uses test images."""
    return bool(list_test_image_rules(selection))


def _make_interval_note(study: Study) -> str:
    """Return the note that says which variation the ± intervals include."""
    has_pseudo_new = "pseudo_new" in join_rules(study.rows["selection"].to_list())
    split = ", pseudo-new classes" if has_pseudo_new else ""
    return (
        f"±: 95% t-interval over seeds (a seed sets the few-shot draw{split} and the"
        " initialization), computed on the logit scale for percentages; a dash: only one seed, or"
        " equal results under all seeds. The test set is fixed: its sampling error is not included"
    )


def _make_annotated_table(
    study: Study,
    name: str,
    title: str,
    columns: Iterable[Column],
    rows: Sequence[Row],
    notes: Iterable[str],
    **fields: Any,
) -> Table:
    """Return a table, with the study's name in the title and with the notes that all tables have.

    Args:
        study: Study of the table.
        name: Name of the table.
        title: Title without the study's name.
        columns: The columns.
        rows: The rows.
        notes: Notes that are specific to the table.
        fields: Other fields of the Table.
    """
    all_notes = [*_make_validity_notes(study, rows), _make_setup_note(study), *notes]
    if any(isinstance(cell, Value) for row in rows for cell in row.cells.values()):
        all_notes.append(Legend(_make_interval_note(study)))
    all_notes += [
        *_make_flag_notes(study, rows),
        *_make_control_notes(study, rows),
        *_make_completeness_notes(study),
    ]
    scope = f"{study.scope}, " if study.scope else ""
    leak = " (selected on test)" if any(uses_test_images(row.selection) for row in rows) else ""
    title = f"{study.name}: {scope}{title}{leak}"
    return Table(name, title, tuple(columns), tuple(rows), tuple(all_notes), **fields)


def make_plain_table(
    study: Study,
    name: str,
    title: str,
    columns: Sequence[Column],
    items: Iterable[Any],
    notes: Iterable[str],
    row_fields: Callable[[Any], Mapping[str, Any]] = lambda item: {},
    **fields: Any,
) -> Table:
    """Return a table whose rows describe any objects, such as factors or measures.

    Each row has the selection rules of the whole study. For tables of groups, see make_group_table.

    Args:
        study: Study of the table.
        name: Name of the table.
        title: Title without the study's name.
        columns: The columns.
        items: The objects, one per row. `Column.cell` is called with the object.
        notes: Notes that are specific to the table.
        row_fields: Function that returns the other fields of an object's Row.
        fields: Other fields of the Table.
    """
    rule = join_rules(study.rows["selection"].to_list())
    rows = [Row(get_cells(columns, item), selection=rule, **row_fields(item)) for item in items]
    return _make_annotated_table(study, name, title, columns, rows, notes, **fields)


def make_group_table(
    family: Family,
    groups: Sequence[Group],
    name: str,
    title: str,
    columns: Sequence[Column],
    notes: Iterable[str],
    *,
    compares: bool = False,
    **fields: Any,
) -> Table:
    """Return a table whose rows are groups of a family.

    Args:
        family: Family of the groups. It determines the label columns and `max_rows` of the table.
        groups: Groups of the rows.
        name: Name of the table.
        title: Title without the study's name.
        columns: Columns after the labels.
        notes: Notes that are specific to the table.
        compares: Whether rows have the differences from the family's baseline.
        fields: Other fields of the Table.
    """
    labels = family.labels

    def make_row(group: Group) -> Row:
        # a control has only one label, its name
        labels_by_key = {
            column.key: text for column, text in zip(labels, group.labels, strict=False)
        }
        row_name, first_label = format_group_name(group, labels), group.labels[0].text
        # the rows before averaging, because averages over datasets have no flags
        trial_group = group.trials
        return Row(
            cells={**labels_by_key, **get_cells(columns, group)},
            is_baseline=compares and group is family.baseline,
            selection=join_rules(trial_group.column("selection")),
            control=group.control,
            counts=group.counts,
            flags=trial_group.flags(),
            comparison=family.comparisons.get(group) if compares else None,
            name=row_name or first_label,
            level=first_label if len(labels) == 1 else format_group_name(group, labels, " with "),
        )

    all_columns = [*labels, *columns]
    fields |= {"n_labels": len(labels), "max_rows": family.max_rows}
    rows = [make_row(group) for group in groups]
    return _make_annotated_table(family.study, name, title, all_columns, rows, notes, **fields)


def make_comparison_notes(family: Family) -> Iterator[str]:
    """Yield the notes on the columns, metrics and tests of a family's table."""
    study, metric = family.study, family.metric
    yield Legend(
        "accuracies in percent. n: finished seeds, summed over the configurations of a row."
        " epoch: the tested epoch, as median and range over seeds (0: untrained). s/seed:"
        f" wall-clock seconds per seed. {study.protocol.note}"
    )
    meanings = {f"{QUALITY}{m.metric}": m.meaning for m in MEASURES} | study.protocol.meanings
    if meaning := meanings.get(metric):
        yield Legend(meaning)
    if family.kind == "methods" or study.pooled_datasets:
        yield make_averages_note(study)
    n_datasets = len(family.datasets)
    methods = [group for group in family.groups if group.control in ("", EXTERNAL)]
    if any(0 < len(method.finished_datasets) < n_datasets for method in methods):
        yield _make_missing_datasets_note(family)
    if family.is_comparable:
        yield from _make_difference_notes(family)
    if FINETUNER_ALONE in family.controls:
        yield Legend(
            f"vs {CONTROLS[FINETUNER_ALONE][0]}: Δ{family.heading} between the row and the"
            " fine-tuner without synthetic features, at the row's levels of all factors that affect"
            " the fine-tuner; paired by seed, with an uncorrected interval. A dash: the row is a"
            " control, has no synthetic features itself, or shares no finished seed with such a"
            " fine-tuner"
        )
    total = sum(not group.control for group in family.groups)
    if family.max_rows is not None and total > family.max_rows:
        yield (
            f"only the {family.max_rows} of {total} configurations with the highest selection"
            " scores are shown; the CSV file has all"
        )


def make_averages_note(study: Study) -> str:
    """Return the note on how averages over datasets are computed."""
    note = (
        "averages over datasets are computed per seed, from seeds that finished on all of the"
        " averaged datasets"
    )
    if not study.protocol.halves:
        return note
    return (
        f"{note}; H of an average is the harmonic mean of the averaged accuracies, not the mean H"
    )


def _make_missing_datasets_note(family: Family) -> str:
    """Return the note on averages of methods that have no results on some datasets."""
    note = (
        "(k/m): only k of the m datasets have a result; do not compare such an average with other"
        " rows"
    )
    if not family.is_comparable or family.baseline is None:
        return note
    return f"{note}. Its Δ is over the datasets on which the row and the baseline have results"


def make_mde_note(heading: str, n_tests: int) -> str:
    """Return the explanation of the column MDE.

    Args:
        heading: Heading of the metric of the differences.
        n_tests: Number of tests in Holm's correction.
    """
    return (
        f"MDE (minimum detectable effect): smallest true Δ{heading} that a test at level"
        f" 5%/{n_tests} (Holm's first step) detects with 80% power, if the standard deviation of"
        " the differences is as observed"
    )


def _make_difference_notes(family: Family) -> Iterator[str]:
    """Yield the notes on the differences to the baseline and their tests."""
    if family.baseline is None:
        yield "no configuration has the baseline levels: there are no paired differences"
        return
    heading, comparisons = family.heading, family.comparisons
    baseline_text = (
        format_group_name(family.baseline, family.labels) or family.baseline.labels[0].text
    )
    tested_groups = [group for group in family.pairs if group in comparisons]
    n_tests = max(1, sum(comparisons[group].holm_p is not None for group in tested_groups))
    yield Legend(
        f"Δ{heading}: difference to the baseline {baseline_text}, paired by seed, dataset and the"
        " levels of other factors, with an uncorrected interval. p: paired t-test (exact sign test"
        f" if all differences are equal), Holm-corrected over the table (comparisons: {n_tests})."
        f" {make_mde_note(heading, n_tests)}"
    )
    if any(comparison.classes for comparison in comparisons.values()):
        yield Legend(
            f"Δ{heading} over classes: 95% interval of Δ{heading} for other test classes and"
            f" the same seeds (percentile bootstrap: the tested classes are resampled {DRAWS:,}"
            " times; widened by Student's t)"
        )
    n_missing, n_runs = family.count_runs_without_predictions()
    if n_missing:
        yield (
            f"{CORRECT_FILE} is missing or damaged in {n_missing} of {n_runs} runs: their rows"
            f" have no Δ{heading} over classes"
        )


def _make_validity_notes(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    """Yield warnings if epochs were selected on test images, or if the backbone is a demo."""
    rules = {rule for row in rows for rule in row.selection.split("+") if rule}
    if leaks := sorted(rules & TEST_IMAGE_RULES):
        is_whole_table = rules <= TEST_IMAGE_RULES
        affected_numbers = "every number here" if is_whole_table else "the rows selected this way"
        yield f"selected on test images ({', '.join(leaks)}): this leak inflates {affected_numbers}"
    if study.demonstration:
        yield "demonstration backbone: these numbers say nothing about CLIP"


def _make_setup_note(study: Study) -> str:
    """Return the note with the params of all configurations, selection rules and seed count."""
    params = {key: study.constants.get(key, "") for key in _SETUP_PARAMS}
    parts = [
        f"{key.removesuffix('.name')} {text}"
        for key, text in params.items()
        if text not in ("", "null", "[]") and not (key == "dataset" and study.pooled_datasets)
    ]
    rule, seeds = join_rules(study.rows["selection"].to_list()), study.rows["seed"].n_unique()
    return "; ".join([*parts, f"selection {rule or 'unknown'}", f"seeds: {seeds}"])


def _make_completeness_notes(study: Study) -> Iterator[str]:
    """Yield notes on results that are absent, left out or reused, then the study's warnings."""
    absences = group_all_rows(study).counts.absence_texts()
    reasons = study.rows.filter(state=FAIL)["reason"].drop_nulls().unique(maintain_order=True)
    if absences:
        if len(reasons):
            # the first text is the number of failed results
            absences[0] += f" ({join_names(reasons.to_list(), '; ')})"
        yield f"not in any mean: {', '.join(absences)}"
    if study.n_untried:
        yield f"{count(study.n_untried, 'configuration')} not tried yet"
    if study.n_left_out:
        results = count(study.n_left_out, "result")
        yield f"left out: {results} of changed configurations or removed seeds"
    for source, n_reused in study.reused.items():
        yield f"reused from study {source}: {count(n_reused, 'result')}"
    yield from study.warnings


def _make_flag_notes(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    """Yield a note per flag of the rows: its meaning, and how many results raised it."""
    names_in_table = {flag.name for row in rows for flag in row.flags}
    # flags of the whole study, because a result may be in several rows of the table, or in none
    for flag in (flag for flag in group_all_rows(study).flags() if flag.name in names_in_table):
        label, meaning = FLAGS.get(flag.name, (flag.name.replace("_", " "), "unknown flag"))
        flags_by_row = [
            (row.name, row_flag)
            for row in rows
            for row_flag in row.flags
            if row_flag.name == flag.name
        ]
        rows_text = join_names(
            [
                f"{name}: {row_flag.n_raised} of {row_flag.n_checked}"
                for name, row_flag in flags_by_row
            ],
            "; ",
        )
        total_text = f"{flag.n_raised} of {flag.n_checked} results"
        yield f"{MARK} {label} in {total_text} ({rows_text}): {meaning}"


def _make_control_notes(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the note that explains the controls of a table, if it has any."""
    unseen = study.protocol.unseen or "tested"
    names = [row.control for row in rows if row.control in CONTROLS]
    controls = [f"{CONTROLS[name][0]}: {CONTROLS[name][1]}" for name in names]
    if controls:
        levels_text = (
            "every control uses the baseline level of each factor that it does not replace"
        )
        text = "; ".join([*controls, levels_text])
        yield Legend(text.format(unseen=unseen))
