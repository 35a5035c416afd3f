"""What optuna's evaluators of importance say of a study: what reports.analysis is held against."""

import warnings
from typing import Any

import optuna
import polars as pl
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

from reports.read import Study


def named_by_optuna(study: Study, metric: str) -> dict[str, str]:
    """The most important factor by each evaluator, over the means of settings.

    Args:
        study: of ranges from 0 to 1.
        metric: of its test metrics.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    unit = optuna.distributions.FloatDistribution(0, 1)
    made = optuna.create_study(direction="maximize")
    keys = [factor.key for factor in study.factors]
    means = study.rows.group_by("setting_key").agg(pl.col(*keys, f"test/{metric}").mean())
    for row in means.rows(named=True):
        params = {key: row[key] for key in keys}
        made.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=dict.fromkeys(keys, unit), value=row[f"test/{metric}"]
            )
        )
    evaluators: dict[str, Any] = {
        "PED-ANOVA": PedAnovaImportanceEvaluator(),
        "fANOVA": FanovaImportanceEvaluator(seed=0),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = {name: one.evaluate(made) for name, one in evaluators.items()}
    return {name: max(found, key=lambda key: found[key]) for name, found in shares.items()}
