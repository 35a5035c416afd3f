"""Finding on external results, which are compared with the study's baseline."""

from collections.abc import Sequence
from dataclasses import replace

from reports.analysis import Limit
from reports.answer.comparisons import (
    classify_comparison,
    format_difference,
    format_metric_name,
    format_no_verdict,
    format_outcomes,
)
from reports.answer.finding import Finding
from reports.cells import AVERAGE, EXTERNAL, Table, Value
from reports.formatting import format_cell_text, join_names
from reports.stats import Verdict
from reports.study import Study


def make_external_finding(
    table: Table, study: Study, metric: str, limits: Sequence[Limit]
) -> Finding | None:
    """Return the finding on a table's external rows; None if it has none.

    Args:
        table: Table of the study.
        study: Study with the external results.
        metric: Test metric of the answer.
        limits: Reasons why the rows get no verdict.
    """
    rows = [row for row in table.rows if row.control == EXTERNAL]
    if not rows:
        return None
    is_average = table.kind == "methods"
    heading = format_metric_name(study, metric)
    names: dict[str, list[str]] = {}  # by outcome
    not_compared = []
    for row in rows:
        mean = row.cells.get(f"{AVERAGE}/{metric}" if is_average else metric)
        if row.comparison:
            comparison = row.comparison
            if limits:
                comparison = replace(comparison, verdict=None, more_seeds=None)
            details = "" if comparison.is_unchanged else f" ({format_difference(comparison)})"
            names.setdefault(classify_comparison(comparison), []).append(f"{row.name}{details}")
        elif isinstance(mean, Value):
            not_compared.append(f"{row.name} ({format_cell_text(mean)}, n {mean.estimate.n})")
    outcomes = format_outcomes(names)
    baseline_name = table.baseline.name if table.baseline else ""
    sentences: list[str] = []
    if outcomes:
        sentences += [
            format_no_verdict(limits),
            f"Compared with the baseline ({baseline_name}), {heading} is {outcomes}.",
        ]
    if not_compared:
        sentences.append(f"Not compared: {join_names(not_compared)}.")
    sentences.append("Their data, seeds and code were not checked.")
    verdict = next((verdict for verdict in Verdict if verdict in names), None)
    subject = f"external results of {study.external.file}"
    subject += ", averaged over datasets" if is_average else ""
    return Finding(subject, verdict, " ".join(filter(None, sentences)))
