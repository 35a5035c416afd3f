"""Importance of a sampled study's factors: PED-ANOVA, as Optuna computes it.

Source: Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently quantifying hyperparameter importance
in arbitrary subspaces", IJCAI 2023 (arXiv:2304.10255).
"""

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from reports.analysis.design import Design, Unavailable, VariedFactor
from reports.tables import as_numbers

MIN_CONFIGURATIONS = 10
_MIN_BEST = 5  # Optuna's recommendation
# Optuna's default is a tenth. In 15 simulated studies of 30 configurations, the only factor with an
# effect ranked first in 11 studies with a tenth, and in 15 with a third, if it was a range. If it
# had two levels, it ranked first in 8 and 13 studies.
_BEST_SHARE = 1 / 3


def best_count(configurations: int) -> int:
    """Return the number of configurations that count as the best ones."""
    return max(_MIN_BEST, math.ceil(_BEST_SHARE * configurations))


def ped_anova(design: Design) -> dict[str, float]:
    """Return the share of each factor in percent, by factor key.

    A factor has a large share if its values in the best configurations differ from those in all
    configurations. It is not a share of the variance, and it is not tested: a factor without any
    effect has a share, too.

    Args:
        design: Configurations of a sampled study; the best ones have the largest means.

    Returns:
        The shares. Before Optuna 5, factors that are active in only some configurations are left
        out.

    Raises:
        Unavailable: If there are too few configurations, if more than half of them tie for the
            best, or if the best have the same values as all.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    count = len(design.configurations)
    if count < MIN_CONFIGURATIONS:
        raise Unavailable(
            f"{count} finished configurations are too few (at least {MIN_CONFIGURATIONS})"
        )
    means = np.sort(design.values.mean(axis=1))
    if 2 * (means >= means[-best_count(count)]).sum() > count:
        raise Unavailable("more than half of the configurations tie for the best")
    with _quiet_optuna():
        evaluator = PedAnovaImportanceEvaluator(target_quantile=best_count(count) / count)
        optuna_study = _optuna_study(design)
        importances = get_param_importances(optuna_study, evaluator=evaluator, normalize=False)
    total = sum(importances.values())
    if not 0 < total < math.inf:
        raise Unavailable("the best configurations have the same values as all configurations")
    return {key: 100 * part / total for key, part in importances.items()}


def _optuna_study(design: Design) -> Any:
    """Return an in-memory Optuna study with a trial per configuration."""
    import optuna

    optuna_study = optuna.create_study(direction="maximize")
    scales = [_factor_scale(factor) for factor in design.factors]
    for row, value in enumerate(design.values.mean(axis=1).tolist()):
        params, distributions = {}, {}
        for factor, (distribution, values) in zip(design.factors, scales, strict=True):
            if factor.codes[row] >= 0:
                params[factor.key] = values[factor.codes[row]]
                distributions[factor.key] = distribution
        trial = optuna.trial.create_trial(value=value, params=params, distributions=distributions)
        optuna_study.add_trial(trial)
    return optuna_study


def _factor_scale(factor: VariedFactor) -> tuple[Any, Sequence[Any]]:
    """Return the distribution of a factor, and the value of each of its levels."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = as_numbers(factor.levels)
    if factor.record.levels is not None or numbers is None:
        choices = range(len(factor.levels))
        return CategoricalDistribution(choices), choices
    low, high = min(numbers), max(numbers)
    return FloatDistribution(low, high, log=factor.record.log and low > 0), numbers


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Silence Optuna's log of the in-memory study and its warning on the experimental evaluator."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
