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
_MIN_BEST = 5  # minimum number of configurations that count as the best; Optuna's recommendation
# Share of configurations that count as the best. Optuna's default is 1/10, but 1/3 ranks the only
# factor with an effect first in more of 15 simulated studies with 30 configurations:
#   the factor is a range:      11 with 1/10, 15 with 1/3
#   the factor has two levels:   8 with 1/10, 13 with 1/3
_BEST_SHARE = 1 / 3


def count_best(n_configurations: int) -> int:
    """Return how many of `n_configurations` configurations count as the best."""
    return max(_MIN_BEST, math.ceil(_BEST_SHARE * n_configurations))


def compute_ped_anova_shares(design: Design) -> dict[str, float]:
    """Return each factor's share of the total importance in percent, by factor key.

    A factor has a large share if its values in the best configurations differ from its values in
    all configurations. The shares are not shares of the variance, and they are not tested: even a
    factor without any effect has a share.

    Args:
        design: Configurations of a sampled study. The best are those with the largest means.

    Returns:
        The shares. With Optuna before version 5, factors that are active in only some
        configurations have none.

    Raises:
        Unavailable: If there are fewer than MIN_CONFIGURATIONS configurations, if more than half of
            them would count as the best because of ties, or if the factors have the same values in
            the best configurations as in all configurations.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    n_configurations = len(design.configurations)
    if n_configurations < MIN_CONFIGURATIONS:
        raise Unavailable(
            f"{n_configurations} finished configurations are too few (at least"
            f" {MIN_CONFIGURATIONS})"
        )
    n_best = count_best(n_configurations)
    means = np.sort(design.values.mean(axis=1))
    if 2 * (means >= means[-n_best]).sum() > n_configurations:
        raise Unavailable("more than half of the configurations tie for the best")
    with _silence_optuna():
        evaluator = PedAnovaImportanceEvaluator(target_quantile=n_best / n_configurations)
        optuna_study = _make_optuna_study(design)
        importances = get_param_importances(optuna_study, evaluator=evaluator, normalize=False)
    total = sum(importances.values())
    if not 0 < total < math.inf:
        raise Unavailable("the best configurations have the same values as all configurations")
    return {key: 100 * importance / total for key, importance in importances.items()}


def _make_optuna_study(design: Design) -> Any:
    """Return an in-memory Optuna study with a trial per configuration.

    A trial's value is the configuration's mean over seeds. Its params contain only the factors that
    are active in the configuration.
    """
    import optuna

    optuna_study = optuna.create_study(direction="maximize")
    spaces = [_make_distribution(factor) for factor in design.factors]
    for row, value in enumerate(design.values.mean(axis=1).tolist()):
        params, distributions = {}, {}
        for factor, (distribution, values) in zip(design.factors, spaces, strict=True):
            if factor.codes[row] >= 0:
                params[factor.key] = values[factor.codes[row]]
                distributions[factor.key] = distribution
        trial = optuna.trial.create_trial(value=value, params=params, distributions=distributions)
        optuna_study.add_trial(trial)
    return optuna_study


def _make_distribution(factor: VariedFactor) -> tuple[Any, Sequence[Any]]:
    """Return a factor's Optuna distribution, and the param value that represents each level.

    A range of numbers gets a float distribution, and its values are the numbers. A factor with
    listed levels, or with levels that are not numbers, is categorical. Its values are the positions
    of the levels.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = as_numbers(factor.levels)
    if factor.record.levels is not None or numbers is None:
        choices = range(len(factor.levels))
        return CategoricalDistribution(choices), choices
    low, high = min(numbers), max(numbers)
    return FloatDistribution(low, high, log=factor.record.log and low > 0), numbers


@contextlib.contextmanager
def _silence_optuna() -> Iterator[None]:
    """Silence Optuna's log, and its warning that the evaluator is experimental."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
