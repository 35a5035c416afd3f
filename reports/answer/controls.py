"""Finding on the controls: the baseline against each of them, and against real images."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from harness.store import COMPETING, CONTROLS, FINETUNER_ALONE
from reports import tables
from reports.analysis import Limit
from reports.answer.comparisons import (
    classify_comparison,
    format_difference,
    format_flags_sentences,
    format_metric_name,
    format_no_verdict,
    format_other_metrics,
    reverse_comparison,
)
from reports.answer.finding import Finding
from reports.cells import CONTROLS_SECTION, Table
from reports.stats import Compared, Estimate, compare_paired
from reports.study import Study
from reports.tables import Family


def make_controls_finding(
    table: Table, study: Study, metric: str, limits: Sequence[Limit]
) -> Finding | None:
    """Return the finding on the controls in a table.

    Args:
        table: Table of the study.
        study: The study.
        metric: Test metric of the answer.
        limits: Reasons why the baseline gets no verdict.

    Returns:
        The finding. Its verdict is that against the fine-tuner alone, or else against the first
        control. None if the table compares no control of COMPETING with a baseline.
    """
    heading = format_metric_name(study, metric)
    baseline = table.baseline
    comparisons = {
        row.control: row.comparison for row in table.rows if row.control and row.comparison
    }
    competing_controls = [control for control in COMPETING if control in comparisons]
    if baseline is None or baseline.control or not competing_controls:
        return None
    if limits:
        comparisons = {
            control: replace(comparison, verdict=None, more_seeds=None)
            for control, comparison in comparisons.items()
        }
    # in a study over datasets, the controls ran on only one of them
    datasets = tables.list_datasets(study)
    controls_study = (
        tables.restrict_to_dataset(study, tables.get_dataset_of_controls(study))
        if datasets
        else study
    )
    family = tables.get_first_family(controls_study, metric)
    baseline_comparisons = {
        control: reverse_comparison(comparisons[control]) for control in competing_controls
    }
    sentences = [format_no_verdict(limits)]
    for control, comparison in baseline_comparisons.items():
        other_metrics = format_other_metrics(
            study, metric, partial(_compute_difference, family, control)
        )
        sentences.append(_describe_comparison(control, comparison, heading, other_metrics))
    if comparisons.get(FINETUNER_ALONE) and comparisons[FINETUNER_ALONE].is_unchanged:
        sentences.append(f"Synthetic features do not change {heading}.")
    if real_images := comparisons.get("real_images"):
        sentences.append(
            _describe_real_images(real_images, comparisons.get(FINETUNER_ALONE), heading, study)
        )
    controls = [
        (row.name, row)
        for row in table.rows
        if row.section == CONTROLS_SECTION and row.control != "zero_shot"
    ]
    sentences.append(format_flags_sentences([("the baseline", baseline), *controls], limits))
    # the comparison with the fine-tuner alone shows whether synthesis helps at all
    decisive = FINETUNER_ALONE if FINETUNER_ALONE in comparisons else competing_controls[0]
    verdict = baseline_comparisons[decisive].verdict
    dataset_text = f" on {controls_study.scope}" if controls_study.scope else ""
    subject = f"baseline ({baseline.name}) against the controls{dataset_text}"
    return Finding(subject, verdict, " ".join(filter(None, sentences)))


def _compute_difference(family: Family, control: str, metric: str) -> Estimate | None:
    """Return the baseline's difference to a control in a metric, paired by seed.

    Args:
        family: Rows of the table with the controls.
        control: One of COMPETING.
        metric: Test metric. It need not be the metric of the family.

    Returns:
        None without a baseline, without the control, or without a seed that both finished.
    """
    control_group = next((group for group in family.groups if group.control == control), None)
    if family.baseline is None or control_group is None:
        return None
    column = f"test/{metric}"
    comparison = compare_paired(
        family.baseline.values_by_seed(column), control_group.values_by_seed(column)
    )
    return comparison.difference if comparison else None


def _describe_comparison(
    control: str, comparison: Compared, heading: str, other_metrics: str
) -> str:
    """Return, for example, "Compared with the fine-tuner alone, H is higher (+1.2 ± 0.1).".

    Args:
        control: One of COMPETING.
        comparison: Comparison of the baseline with the control.
        heading: Heading of the metric.
        other_metrics: Differences in other metrics as text. "" if there are none.
    """
    outcome = classify_comparison(comparison)
    text = f"Compared with the {CONTROLS[control][0]}, {heading} is {outcome}"
    details = "" if comparison.is_unchanged else format_difference(comparison)
    details = "; ".join(filter(None, (details, other_metrics)))
    return f"{text} ({details})." if details else f"{text}."


def _describe_real_images(
    comparison: Compared, alone_comparison: Compared | None, heading: str, study: Study
) -> str:
    """Return how much the metric would change if real images replaced synthetic features.

    Args:
        comparison: Comparison of real images with the baseline.
        alone_comparison: Comparison of the fine-tuner alone with the baseline. None without one.
        heading: Heading of the metric.
        study: Study of the comparisons.

    Returns:
        A sentence.
    """
    unseen = study.protocol.unseen
    images = f"real images of the {unseen} classes" if unseen else "real images"
    if not comparison.is_unchanged:
        difference, *details = format_difference(comparison).split(", ", 1)
        text = f"{images.capitalize()} would change {heading} by {difference}"
        return f"{text} ({details[0]})." if details else f"{text}."
    if alone_comparison is not None and alone_comparison.is_unchanged:
        return f"Even {images} would not change {heading}."
    return f"{images.capitalize()} would not change {heading}."
