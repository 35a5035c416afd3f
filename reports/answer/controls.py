"""The finding of the controls: the baseline against each control, and against real images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from harness.store import ALONE, ARMS, RIVALS
from reports import tables
from reports.analysis import Limit
from reports.answer.comparisons import (
    SAME,
    comparison_phrase,
    difference_text,
    flags_sentence,
    metric_name,
    no_verdict_text,
    others_text,
    reversed_difference,
)
from reports.answer.finding import Finding
from reports.cells import Table
from reports.stats import Compared, Estimate, compare_paired
from reports.study import Study
from reports.tables import Family

_CEILING = "real_pictures"


def controls_finding(
    table: Table, study: Study, metric: str, known: Sequence[Limit]
) -> Finding | None:
    """Return the finding of a table that compares its baseline with controls.

    Args:
        table: Table with differences of the controls to its baseline. Without any, there is no
            finding.
        study: Study of the table.
        metric: Test metric of the answer.
        known: Limits that keep the finding from a verdict.
    """
    head = metric_name(study, metric)
    base = table.baseline
    comparisons = {row.arm: row.compared for row in table.rows if row.arm and row.compared}
    rivals = [arm for arm in RIVALS if arm in comparisons]
    if base is None or base.arm or not rivals:
        return None
    if known:
        comparisons = {
            arm: replace(comparison, verdict=None) for arm, comparison in comparisons.items()
        }
    # the controls ran on one dataset, whose table contains them
    over = tables.datasets(study)
    home = tables.one_dataset(study, tables.arms_dataset(study)) if over else study
    family = tables.first_family(home, metric)
    sentences = [no_verdict_text(known), _unchanged_sentence(comparisons, rivals, head)]
    for arm in rivals:
        if not comparisons[arm].is_unchanged:
            difference = difference_text(reversed_difference(comparisons[arm]))
            difference += others_text(study, metric, partial(_baseline_difference, family, arm))
            sentences.append(f"{comparison_phrase(comparisons[arm])} {ARMS[arm][0]}: {difference}.")
    if ceiling := comparisons.get(_CEILING):
        sentences.append(_real_images_sentence(ceiling, comparisons.get(ALONE), head))
    controls = [(row.name, row) for row in table.rows if row.arm and row.arm != "zero_shot"]
    sentences.append(flags_sentence([("the baseline", base), *controls], known))
    # The verdict on the first control shows whether synthesis helps at all.
    verdict = next((comparisons[arm].verdict for arm in rivals if comparisons[arm].verdict), None)
    place = f" on {home.scope}" if home.scope else ""
    return Finding(f"the baseline ({base.name}){place}", verdict, " ".join(filter(None, sentences)))


def _baseline_difference(family: Family, control: str, metric: str) -> Estimate | None:
    """Return the baseline's difference to a control in a metric, over the seeds that both finished.

    Args:
        family: Family of the first table, of the dataset that the controls ran on.
        control: One of RIVALS.
        metric: Test metric, which may differ from that of the family.
    """
    arm = next((group for group in family.groups if group.arm == control), None)
    if family.baseline is None or arm is None:
        return None
    column = f"test/{metric}"
    comparison = compare_paired(family.baseline.seeds(column), arm.seeds(column))
    return comparison.difference if comparison else None


def _unchanged_sentence(
    comparisons: Mapping[str, Compared], rivals: Sequence[str], head: str
) -> str:
    """Return a sentence on the controls with exactly the baseline's results; "" if none has."""
    names = [ARMS[arm][0] for arm in rivals if comparisons[arm].is_unchanged]
    if not names:
        return ""
    same = f"{SAME.format(head)} {' and '.join(names)}."
    if ALONE in comparisons and comparisons[ALONE].is_unchanged:
        return f"Synthetic features change nothing here: {same[0].lower()}{same[1:]}"
    return same


def _real_images_sentence(real: Compared, floor: Compared | None, head: str) -> str:
    """Return a sentence that compares real images with the baseline."""
    if not real.is_unchanged:
        return f"Real pictures against it: {difference_text(real)}."
    if floor is not None and floor.is_unchanged:
        return "Even real images would change nothing."
    return f"{SAME.format(head)} real images."
