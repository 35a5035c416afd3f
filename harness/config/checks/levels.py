"""A search space among itself: conditions and baselines, and what its sampler needs."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from harness.config.checks.settings import MAX_GRID
from harness.config.factor import Factor, assignments, in_order, is_among
from harness.config.study_config import SELECTING, StudyConfig
from harness.errors import Fault
from harness.wording import nearest, show


def sampler_faults(study: StudyConfig) -> list[Fault]:
    """Faults of what proposes settings, and of how many it is to propose."""
    sampler, faults = study.sampler, []
    if sampler == "grid":
        faults += _grid_faults(study.space, study.trials)
    else:
        if study.trials is None:
            must = f"must be given: how many settings {sampler} is to try"
            faults.append(Fault("trials", must))
        must = "must be a constant unless the sampler is grid: it decides what is maximised"
        faults += [Fault(f"space.{key}", must) for key in SELECTING if key in study.space]
    if study.trial.selection == "none":
        must = "must be grid where selection is none, which measures nothing to be maximised"
        faults += [Fault("sampler", must, sampler)] if sampler != "grid" else []
        if study.scheduler.name != "none":
            must = "must be none where selection is none, which measures nothing to be compared"
            faults.append(Fault("scheduler", must, study.scheduler.name))
    return faults


def space_faults(space: Mapping[str, Factor]) -> list[Fault]:
    """Faults of sound factors among each other."""
    faults = _cycle_faults(space)
    for key, factor in space.items():
        faults += [*_when_faults(key, space), *_baseline_faults(key, factor)]
    return faults


def _bare(level: Any) -> str:
    return level if isinstance(level, str) else show(level)


def _baseline_faults(key: str, factor: Factor) -> list[Fault]:
    if "baseline" not in factor.model_fields_set:
        return []
    path, value = f"space.{key}.baseline", factor.baseline
    levels = factor.enumerate()
    if levels is not None and not is_among(value, levels):
        choices = tuple(map(_bare, levels))
        return [Fault(path, "must be one of the levels", value, choices)]
    if levels is None and factor.low is not None and factor.high is not None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not factor.low <= value <= factor.high:
            return [Fault(path, f"must be from {factor.low} to {factor.high}", value)]
    return []


def _when_faults(key: str, space: Mapping[str, Factor]) -> list[Fault]:
    faults = []
    others = tuple(name for name in space if name != key)
    for name, values in space[key].when.items():
        path = f"space.{key}.when.{name}"
        if name not in others:
            must = "must name another factor of the space"
            faults.append(Fault(path, must, choices=others, near=nearest(name, others)))
            continue
        levels = space[name].enumerate()
        if levels is None:
            faults.append(Fault(path, "must name a factor with choices, step or levels"))
            continue
        if not values:
            faults.append(Fault(path, "must have at least one value", values))
        choices = tuple(map(_bare, levels))
        for value in values:
            if not is_among(value, levels):
                faults.append(Fault(path, f"must be a value that {name} takes", value, choices))
    return faults


def _cycle_faults(space: Mapping[str, Factor]) -> list[Fault]:
    ordered = in_order(space)
    stuck = [key for key in space if key not in ordered]
    must = "must not wait for itself: the conditions run in a circle through "
    return [Fault(f"space.{stuck[0]}.when", must + ", ".join(stuck))] if stuck else []


def _grid_faults(space: Mapping[str, Factor], trials: int | None) -> list[Fault]:
    """Faults of a space that a grid is to run over: every factor has levels, and not too many."""
    endless = [key for key, factor in space.items() if factor.enumerate() is None]
    if endless:
        must = "must have levels, step or choices under sampler grid"
        return [Fault(f"space.{key}", must) for key in endless]
    count = sum(1 for _ in islice(assignments(space), (trials or MAX_GRID) + 1))
    if trials is None and count > MAX_GRID:
        must = f"must span at most {MAX_GRID} settings under sampler grid, unless trials is given"
        return [Fault("space", must)]
    return []
