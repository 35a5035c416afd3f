"""Check whether choosing the best configuration by selection score inflates its test result."""

import numpy as np

from harness.store import COMPLETE
from reports import tables
from reports.stats import compute_additive_residuals, compute_scale, is_rounding
from reports.study import Study

MIN_SEEDS = 3  # with two seeds, the residuals of a configuration differ only in sign


def compute_choice_correlation(study: Study, metric: str) -> float | None:
    """Return the correlation of selection noise with test noise, over configurations and seeds.

    The noise of a result is its residual after subtracting the means of its configuration and its
    seed. With a positive correlation, the configuration that selection prefers was probably lucky
    on the test set, too.

    Configurations that lack a result of some seed are dropped.

    Args:
        study: Study read from the store. A study over datasets is represented by its averages.
        metric: Name of a test metric.

    Returns:
        The correlation, from -1 to 1. None if

        - fewer than two configurations or fewer than MIN_SEEDS seeds are left,
        - the study has no test results or no selection scores,
        - the study is over datasets, and no method is planned on all of them, or
        - test results or selection scores have no noise.
    """
    averaged_study = tables.average_over_datasets(study)
    if averaged_study is None:
        return None
    columns = [f"test/{metric}", averaged_study.score_column]
    if not {*columns} <= {*averaged_study.rows.columns}:
        return None
    finished_rows = (
        tables.select_configuration_rows(averaged_study).filter(state=COMPLETE).drop_nulls(columns)
    )
    matrices = []
    for column in columns:
        table = finished_rows.pivot("seed", index="config_key", values=column).drop("config_key")
        matrices.append(table.drop_nulls().to_numpy())
    n_configurations, n_seeds = matrices[0].shape
    if n_configurations < 2 or n_seeds < MIN_SEEDS:
        return None
    test_noise, selection_noise = map(compute_additive_residuals, matrices)
    if is_rounding(test_noise, compute_scale(matrices[0])) or is_rounding(
        selection_noise, compute_scale(matrices[1])
    ):
        return None
    return float(
        (test_noise * selection_noise).sum()
        / np.sqrt((test_noise**2).sum() * (selection_noise**2).sum())
    )
