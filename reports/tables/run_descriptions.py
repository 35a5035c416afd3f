"""Differences to the baseline for the descriptions of runs in MLflow."""

from harness.wording import count
from reports.cells import Value
from reports.formatting import DASH, PLAIN, cell_text
from reports.stats import compare_paired
from reports.study import Study
from reports.tables.families import first_family
from reports.tables.metric import decimals_of
from reports.tables.over_datasets import list_datasets

# Runs of larger studies get no difference: each changed description is a request to the store.
MAX_DESCRIBED = 200


def run_differences(study: Study, metric: str) -> dict[str, str]:
    """Return the paired difference to the baseline by run ID, such as "ΔH −0.5 ± 0.7, 10 seeds".

    All finished runs of a configuration have the same text: the configuration's difference over the
    seeds that it shares with the baseline.

    Args:
        study: Study read from the store.
        metric: Test metric of its protocol.

    Returns:
        {} for a study over several datasets, or of more than MAX_DESCRIBED runs.
    """
    if list_datasets(study) or study.rows["run_id"].n_unique() > MAX_DESCRIBED:
        return {}
    family, column = first_family(study, metric), f"test/{metric}"
    texts: dict[str, str] = {}
    for group, (configuration, baseline) in family.pairs.items():
        comparison = compare_paired(
            configuration.values_by_seed(column), baseline.values_by_seed(column)
        )
        if comparison is None:
            continue
        difference = comparison.difference
        value = cell_text(Value(difference, signed=True, decimals=decimals_of(study, metric)))
        value = value.removesuffix(f"{PLAIN.plus_minus}{DASH}")  # one pair has no interval
        text = f"Δ{family.heading} {value}, {count(difference.n, 'seed')}"
        texts |= dict.fromkeys((row["run_id"] for row in group.finished_rows), text)
    return texts
