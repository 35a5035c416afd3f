"""The finding of the controls: the baseline against them, and real images against the baseline."""

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
        table: with differences of the arms to its baseline; without any there is no finding.
        study: whose table it is.
        metric: Test metric of the answer.
        known: what keeps from a verdict.
    """
    head = metric_name(study, metric)
    base = table.baseline
    found = {row.arm: row.compared for row in table.rows if row.arm and row.compared}
    rivals = [arm for arm in RIVALS if arm in found]
    if base is None or base.arm or not rivals:
        return None
    if known:
        found = {arm: replace(one, verdict=None) for arm, one in found.items()}
    # the reference arms ran on one dataset, in whose table they are
    over = tables.datasets(study)
    home = tables.one_dataset(study, tables.arms_dataset(study)) if over else study
    family = tables.first_family(home, metric)
    told = [no_verdict_text(known), _unchanged(found, rivals, head)]
    for arm in rivals:
        if not found[arm].is_unchanged:
            difference = difference_text(reversed_difference(found[arm]))
            difference += others_text(study, metric, partial(_baseline_against, family, arm))
            told.append(f"{comparison_phrase(found[arm])} {ARMS[arm][0]}: {difference}.")
    if ceiling := found.get(_CEILING):
        told.append(_real_images(ceiling, found.get(ALONE), head))
    controls = [(row.name, row) for row in table.rows if row.arm and row.arm != "zero_shot"]
    told.append(flags_sentence([("the baseline", base), *controls], known))
    # The first rival's verdict tells whether synthesis helps at all.
    verdict = next((found[arm].verdict for arm in rivals if found[arm].verdict), None)
    place = f" on {home.scope}" if home.scope else ""
    return Finding(f"the baseline ({base.name}){place}", verdict, " ".join(filter(None, told)))


def _baseline_against(family: Family, control: str, metric: str) -> Estimate | None:
    """Return the baseline's difference to a control in a metric, over the seeds of both.

    Args:
        family: The first table's, of the dataset that the controls ran on.
        control: One of RIVALS.
        metric: A test metric, not necessarily that of the family.
    """
    arm = next((group for group in family.groups if group.arm == control), None)
    if family.baseline is None or arm is None:
        return None
    column = f"test/{metric}"
    found = compare_paired(family.baseline.seeds(column), arm.seeds(column))
    return found.difference if found else None


def _unchanged(found: Mapping[str, Compared], rivals: Sequence[str], head: str) -> str:
    """Return which of the rivals have exactly the baseline's results; "" where none has."""
    names = [ARMS[arm][0] for arm in rivals if found[arm].is_unchanged]
    if not names:
        return ""
    same = f"{SAME.format(head)} {' and '.join(names)}."
    if ALONE in found and found[ALONE].is_unchanged:
        return f"Synthetic features change nothing here: {same[0].lower()}{same[1:]}"
    return same


def _real_images(real: Compared, floor: Compared | None, head: str) -> str:
    """Return how real images compare with the baseline."""
    if not real.is_unchanged:
        return f"Real pictures against it: {difference_text(real)}."
    if floor is not None and floor.is_unchanged:
        return "Even real images would change nothing."
    return f"{SAME.format(head)} real images."
