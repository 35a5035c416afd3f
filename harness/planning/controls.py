"""Plan controls at the levels of the configurations that they are compared with.

A control reads the factors of the fine-tuner, the shots and so on. A comparison with and without
SHIP is fair only at equal levels of these factors.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from statistics import fmean

from harness.config import make_baseline, make_control
from harness.planning.configurations import Configuration, ConfigurationMaker
from harness.store import COMPETING, RunHistory, State, control_levels, level_id

_DATASET = "dataset"
_SAME_SCORE = 1e-9  # relative difference below which two selection scores are equal


def plan_controls(
    maker: ConfigurationMaker, configurations: Iterable[Configuration]
) -> list[Configuration]:
    """Return the controls at the levels of configurations, without those at the baseline.

    These are the controls that a method has to beat: the fine-tuner alone and the text feature.
    Configurations without synthetic features get none, because they equal a control. Configurations
    on another dataset than the baseline's get none either. The result includes
    controls that equal one of the configurations; their keys are equal.

    Args:
        maker: Maker of the study's configurations.
        configurations: Configurations of the study's space.
    """
    study = maker.study
    if not study.controls:
        return []
    baseline, controls = make_baseline(study), dict[str, Configuration]()
    known_keys = {
        _make_control_key(control, control_levels(control, baseline)) for control in COMPETING
    }
    for configuration in configurations:
        if configuration.trial.generator.name == "none":
            continue
        if configuration.assignment.get(_DATASET) != baseline.get(_DATASET):
            continue
        for control in COMPETING:
            levels = control_levels(control, configuration.assignment)
            control_key = _make_control_key(control, levels)
            if control_key in known_keys:
                continue
            known_keys.add(control_key)
            with suppress(ValueError):  # the trial's checks may refuse these levels
                config = make_control(study, control, levels)
                configuration_key = maker.key(config)
                controls[control_key] = Configuration(configuration_key, config, levels, control)
    return list(controls.values())


def _make_control_key(control: str, levels: Mapping[str, object]) -> str:
    """Return an ID of a control at levels of its factors."""
    levels = {key: level_id(level) for key, level in sorted(levels.items())}
    return json.dumps([control, levels])


def plan_sampled_controls(
    maker: ConfigurationMaker,
    configurations: Sequence[Configuration],
    history: RunHistory,
    *,
    is_ended: bool,
) -> list[Configuration]:
    """Return the matched controls of a study whose sampler proposes the configurations.

    A control at the levels of each proposal would double the study. Only the best configurations
    get controls, once the last proposal has ended. Finished controls of configurations that were
    the best earlier are kept.

    Args:
        maker: Maker of the study's configurations.
        configurations: Configurations that were proposed so far.
        history: Run history of the study.
        is_ended: Whether no configuration is left to propose or to run.
    """
    best = find_best(maker, configurations, history) if is_ended else []
    best_keys = {control.key for control in plan_controls(maker, best)}
    finished = _finished_controls(configurations, history)
    candidates = [
        configuration
        for configuration in configurations
        if any(
            _make_control_key(name, control_levels(name, configuration.assignment)) in finished
            for name in COMPETING
        )
    ]
    return [
        control
        for control in plan_controls(maker, [*best, *candidates])
        if control.key in best_keys or history.state(control.key) is State.COMPLETE
    ]


def _finished_controls(configurations: Iterable[Configuration], history: RunHistory) -> set[str]:
    """Return the IDs of finished controls, and of controls that equal a configuration."""
    names = {
        _make_control_key(run.control, run.assignment)
        for run in history.runs
        if run.control in COMPETING and run.state is State.COMPLETE
    }
    for configuration in configurations:
        generator = configuration.trial.generator.model_dump()
        for name, control in COMPETING.items():
            if control.replacements["generator"].items() <= generator.items():
                names.add(_make_control_key(name, control_levels(name, configuration.assignment)))
    return names


def find_best(
    maker: ConfigurationMaker, configurations: Iterable[Configuration], history: RunHistory
) -> list[Configuration]:
    """Return the configurations with the best mean selection score. Ties are all returned.

    The reports' headline is about the same configurations (reports.tables.best_config).

    Args:
        maker: Maker of the study's configurations.
        configurations: Configurations of the study's space.
        history: Run history of the study.
    """
    scores: list[tuple[float, Configuration]] = []
    for configuration in configurations:
        objectives = history.objectives(configuration.key)
        if values := [objectives[seed] for seed in maker.study.seeds if seed in objectives]:
            scores.append((fmean(values), configuration))
    best = max((score for score, _ in scores), default=0.0)
    return [
        configuration
        for score, configuration in scores
        if math.isclose(score, best, rel_tol=_SAME_SCORE)
    ]
