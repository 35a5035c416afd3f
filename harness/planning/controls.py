"""Plan controls at the levels of the configurations that they are compared with.

A control replaces the generator but depends on other factors, such as shots and the fine-tuner's
options. Comparing it with a configuration is fair only if both have equal levels of these factors.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from statistics import fmean

from harness.config import make_baseline, make_control
from harness.planning.configurations import Configuration, ConfigurationMaker
from harness.store import COMPETING, RunHistory, State, control_levels, make_level_id

_DATASET = "dataset"
_TIE_TOLERANCE = 1e-9  # relative difference up to which two selection scores are tied


def plan_controls(
    maker: ConfigurationMaker, configurations: Iterable[Configuration]
) -> list[Configuration]:
    """Return the controls at the levels of configurations, without those at the baseline.

    Only the controls that a method has to beat are planned: the fine-tuner alone and the text
    feature. Configurations without a generator get none, because they equal a control, nor do
    configurations on other datasets than the baseline's.

    A returned control may have the same key as one of the configurations.

    Args:
        maker: Maker of the study's configurations.
        configurations: Configurations of the study's space.
    """
    study = maker.study
    if not study.controls:
        return []
    baseline, controls = make_baseline(study), dict[str, Configuration]()
    known_ids = {
        _make_control_id(control, control_levels(control, baseline)) for control in COMPETING
    }
    for configuration in configurations:
        if configuration.trial.generator.name == "none":
            continue
        if configuration.assignment.get(_DATASET) != baseline.get(_DATASET):
            continue
        for control in COMPETING:
            levels = control_levels(control, configuration.assignment)
            control_id = _make_control_id(control, levels)
            if control_id in known_ids:
                continue
            known_ids.add(control_id)
            with suppress(ValueError):  # the trial's checks may refuse these levels
                config = make_control(study, control, levels)
                key = maker.key(config)
                controls[control_id] = Configuration(key, config, levels, control)
    return list(controls.values())


def _make_control_id(control: str, levels: Mapping[str, object]) -> str:
    """Return a text that identifies a control at levels of its factors."""
    level_ids = {key: make_level_id(level) for key, level in sorted(levels.items())}
    return json.dumps([control, level_ids])


def plan_sampled_controls(
    maker: ConfigurationMaker,
    configurations: Sequence[Configuration],
    history: RunHistory,
    *,
    is_ended: bool,
) -> list[Configuration]:
    """Return the controls, without those at the baseline, of a study whose sampler is not grid.

    Controls at the levels of every proposal could double the cost of the study. Therefore only the
    best configurations get controls, once the last proposal has ended. Controls that have finished
    are kept, even if their configuration is no longer the best.

    Args:
        maker: Maker of the study's configurations.
        configurations: Configurations that were proposed so far.
        history: Run history of the study.
        is_ended: Whether no configuration is left to propose or to run.
    """
    best = find_best(maker, configurations, history) if is_ended else []
    best_keys = {control.key for control in plan_controls(maker, best)}
    finished = _list_finished_controls(configurations, history)
    candidates = [
        configuration
        for configuration in configurations
        if any(
            _make_control_id(name, control_levels(name, configuration.assignment)) in finished
            for name in COMPETING
        )
    ]
    return [
        control
        for control in plan_controls(maker, [*best, *candidates])
        if control.key in best_keys or history.state(control.key) is State.COMPLETE
    ]


def _list_finished_controls(
    configurations: Iterable[Configuration], history: RunHistory
) -> set[str]:
    """Return the IDs of finished controls, and of controls that equal a configuration."""
    control_ids = {
        _make_control_id(run.control, run.assignment)
        for run in history.runs
        if run.control in COMPETING and run.state is State.COMPLETE
    }
    for configuration in configurations:
        generator = configuration.trial.generator.model_dump()
        for name, control in COMPETING.items():
            if control.replacements["generator"].items() <= generator.items():
                levels = control_levels(name, configuration.assignment)
                control_ids.add(_make_control_id(name, levels))
    return control_ids


def find_best(
    maker: ConfigurationMaker, configurations: Iterable[Configuration], history: RunHistory
) -> list[Configuration]:
    """Return the configurations with the best mean selection score over seeds.

    The report's headline is about the same configurations (reports.tables.best_config).

    Args:
        maker: Maker of the study's configurations.
        configurations: Configurations of the study's space.
        history: Run history of the study.

    Returns:
        One configuration, several if they are tied, or [] if none has a score.
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
        if math.isclose(score, best, rel_tol=_TIE_TOLERANCE)
    ]
