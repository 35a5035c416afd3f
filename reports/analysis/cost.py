"""What a setting costs against what it reaches."""

from dataclasses import dataclass

from reports.analysis.design import Unavailable, scores_compare, subject
from reports.read import Study
from reports.stats import Estimate
from reports.tables import factor_labels, interval_of, setting_groups, spelled


@dataclass(frozen=True)
class CostPoint:
    """A finished setting.

    label: its factors in words.
    seconds: of computing for a seed, mean.
    value: of the test metric, over seeds.
    score: mean selection objective; None where nothing was selected, or where the study's scores do
        not compare (on test pictures, or by different rules).
    optimal: no other setting has a better score for no more seconds. Test decides nothing here.
    """

    setting_key: str
    label: str
    seconds: float
    value: Estimate
    score: float | None
    optimal: bool


def cost_against(study: Study, metric: str) -> tuple[CostPoint, ...] | Unavailable:
    """Every finished setting with its cost, the cheapest first.

    Args:
        study: the study; one over datasets is taken by its averages.
        metric: of its test metrics.
    """
    part = subject(study, metric)
    if isinstance(part, Unavailable):
        return part
    labels, comparable = factor_labels(part), scores_compare(part) is None
    score_column = f"selection/{part.objective}"
    comparable = comparable and score_column in part.rows.columns
    found = []
    for group in setting_groups(part):
        done = group.done
        values = done[f"test/{metric}"].drop_nulls().to_list()
        seconds = done["seconds"].drop_nulls().to_list()
        if not values or not seconds:
            continue
        scores = done[score_column].to_list() if comparable else [None]
        score = None if None in scores else sum(scores) / len(scores)
        estimate = interval_of(metric, values)
        words = spelled(group, labels)
        found.append((group.value.key, words, sum(seconds) / len(seconds), estimate, score))
    if not found:
        return Unavailable("no setting has finished")
    best, made = float("-inf"), []
    for key, words, spent, estimate, score in sorted(
        found, key=lambda point: (point[2], -(point[4] if point[4] is not None else float("-inf")))
    ):
        optimal = score is not None and score > best
        best = score if optimal and score is not None else best
        made.append(CostPoint(key, words, spent, estimate, score, optimal))
    return tuple(made)
