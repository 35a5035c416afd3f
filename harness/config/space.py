"""A study's search space: its grid, its Optuna distributions, and the trials behind settings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from harness.config.dotted import place
from harness.config.factor import Factor, assignments, is_active, may_be, walk
from harness.config.study_config import StudyConfig
from ship.requirements import PROTOCOLS
from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    import optuna

# Arms that stand beside every study. Each replaces the generator or the fine-tuner, nothing else.
_ARMS: dict[str, dict[str, Any]] = {
    "zero_shot": {"generator": {"name": "none"}, "finetuner": {"name": "zero_shot"}},
    "no_synthetic": {"generator": {"name": "none"}},
    "text_feature": {"generator": {"name": "gaussian_text", "scale": 0.0}},
    "real_pictures": {"generator": {"name": "real"}},
}


def grid(study: StudyConfig) -> list[dict[str, Any]]:
    """Every combination of levels as dotted name -> value, without factors that are not active.

    The last factor runs fastest. `trials`, if given, keeps the first so many.

    Raises:
        ValueError: a factor is a range without step or levels (a loaded grid study has none).
    """
    return list(islice(assignments(study.space), study.trials))


def levels(study: StudyConfig, key: str) -> list[Any] | None:
    """The levels that a factor takes in this study; None where values are drawn from a range."""
    factor = study.space[key]
    drawn = factor.is_range and factor.step is None and study.sampler != "grid"
    found = None if drawn else factor.enumerate()
    return None if found is None else list(found)


def belongs(study: StudyConfig, assignment: Mapping[str, Any]) -> bool:
    """Whether an assignment has the factors that are active beside each other, each at a level."""
    return set(assignment) <= set(study.space) and all(
        is_active(factor, assignment) == (key in assignment)
        and (key not in assignment or may_be(factor, levels(study, key), assignment[key]))
        for key, factor in study.space.items()
    )


def baseline(study: StudyConfig) -> dict[str, Any]:
    """Each active factor at its baseline; a range that has none is left out."""
    return walk(
        study.space,
        lambda key, factor: (
            {} if factor.is_range and factor.baseline is None else {key: factor.baseline}
        ),
    )


def distributions(study: StudyConfig) -> dict[str, optuna.distributions.BaseDistribution]:
    """Optuna's distribution of each factor, active or not."""
    import optuna

    found = {}
    for key, factor in study.space.items():
        kind, args, options = _optuna(factor)
        found[key] = getattr(optuna.distributions, f"{kind}Distribution")(*args, **options)
    return found


def suggest(trial: optuna.Trial, study: StudyConfig) -> dict[str, Any]:
    """Ask an Optuna trial for a setting: dotted name -> value, of the active factors."""

    def drawn(key: str, factor: Factor) -> dict[str, Any]:
        kind, args, options = _optuna(factor)
        return {key: getattr(trial, f"suggest_{kind.lower()}")(key, *args, **options)}

    return walk(study.space, drawn)


def resolve(study: StudyConfig, assignment: Mapping[str, Any]) -> TrialConfig:
    """The trial that a setting stands for: the study's constants with the assignment's values.

    A group's name (`finetuner: coop`) keeps the constants of that group if they are of that
    variant, else takes the study's `variants` of that name, and the defaults.
    """
    return TrialConfig.model_validate(place(study.trial.model_dump(), assignment, study.variants))


def reference_arms(study: StudyConfig) -> dict[str, TrialConfig]:
    """The arms that stand beside the study, by name; {} if the study asks for none.

    They have the study's constants, with each factor that is not of the replaced group at its
    baseline: a study over datasets without the constant's has its arms on the baseline dataset.
    An arm may equal a setting of the study, or another arm; its setting_key tells.
    """
    if not study.reference_arms:
        return {}
    base = resolve(study, baseline(study)).model_dump()
    from ship.datasets import has_unseen_pictures

    shown = PROTOCOLS[study.trial.protocol].new_classes and has_unseen_pictures(base["dataset"])
    return {
        name: TrialConfig.model_validate({**base, **arm})
        for name, arm in _ARMS.items()
        if shown or name != "real_pictures"  # there are no new classes' pictures to show
    }


def _optuna(factor: Factor) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """What Optuna calls a factor's kind, and what it is given for one."""
    if factor.choices is not None:
        return "Categorical", (factor.choices,), {}
    low, high = factor.bounds
    if isinstance(low, int) and isinstance(high, int):
        step = factor.step if isinstance(factor.step, int) else 1
        return "Int", (low, high), {"log": factor.log, "step": step}
    return "Float", (low, high), {"log": factor.log, "step": factor.step}
