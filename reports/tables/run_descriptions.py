"""Text about the difference to the baseline, for the description of each run in MLflow."""

from harness.wording import count
from reports.cells import Value
from reports.formatting import DASH, PLAIN, format_cell_text
from reports.stats import compare_paired
from reports.study import Study
from reports.tables.families import get_first_family
from reports.tables.metric import get_decimals
from reports.tables.over_datasets import list_datasets

# Runs of larger studies get no text, because each changed description is a request to the store.
MAX_DESCRIBED = 200


def run_differences(study: Study, metric: str) -> dict[str, str]:
    """Return each run's difference to the baseline as text, by run ID: "ΔH −0.5 ± 0.7, 10 seeds".

    All finished runs of a configuration have the same text: the configuration's mean difference
    over the seeds that the baseline finished, too.

    Args:
        study: Study read from the store.
        metric: Test metric of the study's protocol.

    Returns:
        {} for a study over several datasets, or with more than MAX_DESCRIBED runs. Runs of the
        baseline, and of configurations without a common seed, have no entry.
    """
    if list_datasets(study) or study.rows["run_id"].n_unique() > MAX_DESCRIBED:
        return {}
    family, column = get_first_family(study, metric), f"test/{metric}"
    texts: dict[str, str] = {}
    for group, (configuration, baseline) in family.pairs.items():
        comparison = compare_paired(
            configuration.values_by_seed(column), baseline.values_by_seed(column)
        )
        if comparison is None:
            continue
        difference = comparison.difference
        value = format_cell_text(
            Value(difference, signed=True, decimals=get_decimals(study, metric))
        )
        # without an interval (a single pair, or equal differences), the cell ends in "± –"
        value = value.removesuffix(f"{PLAIN.plus_minus}{DASH}")
        text = f"Δ{family.heading} {value}, {count(difference.n, 'seed')}"
        texts |= dict.fromkeys((row["run_id"] for row in group.finished_rows), text)
    return texts
