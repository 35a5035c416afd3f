"""How far a choice by selection scores flatters the test result of what it chooses."""

import numpy as np

from harness.store import COMPLETE
from reports import tables
from reports.analysis.uneven import additive_residuals
from reports.stats import is_rounding, scale_of
from reports.study import Study

FEWEST_SEEDS = 3  # with two, each configuration has one residual but for its sign


def choice_correlation(study: Study, metric: str) -> float | None:
    """Return the correlation of selection's noise with the test's, over configurations and seeds.

    Noise is what a configuration's and a seed's mean do not explain. If both noises go together,
    the configuration that selection prefers has been lucky on test, too.

    Args:
        study: as it was read; one over datasets is taken by its averages.
        metric: of its test metrics.

    Returns:
        None with one configuration, fewer than three seeds, or without noise in either.
    """
    whole = tables.averaged(study)
    columns = [f"test/{metric}", "" if whole is None else whole.score]
    if whole is None or not {*columns} <= {*whole.rows.columns}:
        return None
    done = tables.own_rows(whole).filter(state=COMPLETE).drop_nulls(columns)
    both = []
    for column in columns:
        wide = done.pivot("seed", index="setting_key", values=column).drop("setting_key")
        both.append(wide.drop_nulls().to_numpy())
    test, selection = map(additive_residuals, both)
    if min(test.shape, default=0) < 2 or test.shape[1] < FEWEST_SEEDS:
        return None
    if is_rounding(test, scale_of(both[0])) or is_rounding(selection, scale_of(both[1])):
        return None
    return float((test * selection).sum() / np.sqrt((test**2).sum() * (selection**2).sum()))
