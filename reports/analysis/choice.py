"""How far the choice by selection scores inflates the test result of the chosen configuration."""

import numpy as np

from harness.store import COMPLETE
from reports import tables
from reports.analysis.uneven import additive_residuals
from reports.stats import is_rounding, scale_of
from reports.study import Study

MIN_SEEDS = 3  # with two, the residuals of a configuration are equal up to their sign


def choice_correlation(study: Study, metric: str) -> float | None:
    """Return the correlation of selection noise with test noise, over configurations and seeds.

    Noise is the residual after the means of the configuration and of the seed. If both noises are
    correlated, the configuration that selection prefers was lucky on the test set, too.

    Args:
        study: Study read from the store. A study over datasets is represented by its averages.
        metric: Name of a test metric.

    Returns:
        None with one configuration, with fewer than three seeds, or if either has no noise.
    """
    whole = tables.average_over_datasets(study)
    columns = [f"test/{metric}", "" if whole is None else whole.score]
    if whole is None or not {*columns} <= {*whole.rows.columns}:
        return None
    done = tables.configuration_rows(whole).filter(state=COMPLETE).drop_nulls(columns)
    both = []
    for column in columns:
        wide = done.pivot("seed", index="config_key", values=column).drop("config_key")
        both.append(wide.drop_nulls().to_numpy())
    test, selection = map(additive_residuals, both)
    if min(test.shape, default=0) < 2 or test.shape[1] < MIN_SEEDS:
        return None
    if is_rounding(test, scale_of(both[0])) or is_rounding(selection, scale_of(both[1])):
        return None
    return float((test * selection).sum() / np.sqrt((test**2).sum() * (selection**2).sum()))
