"""The configurations of a study: resolved assignments, with their keys in the run history."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from harness.config import (
    StudyConfig,
    belongs,
    enumerate_grid,
    get_value,
    iter_assignments,
    make_baseline,
    resolve,
    resolve_controls,
)
from harness.planning.fingerprints import Fingerprints
from harness.store import RunHistory, RunRecord, State
from harness.wording import escape_controls, show
from ship.plugins import find_plugin_identities
from ship.trial_config import RESULTS_VERSION, TrialConfig


@dataclass(frozen=True)
class Configuration:
    """One configuration of a study, or a control.

    Attributes:
        key: Key of the configuration in the run history.
        trial: Resolved parameters of its trial.
        assignment: Levels of the study's factors by dotted name. For a control, only the levels of
            factors that affect it; {} for a control at the baseline.
        control: Name of the control. "" for a configuration of the study's space.
    """

    key: str
    trial: TrialConfig
    assignment: Mapping[str, Any] = field(default_factory=dict)
    control: str = ""

    @property
    def label(self) -> str:
        """Short label, e.g. "n_ctx=4, kl_weight=0.1" or "no_synthetic (lr=0.1)"."""
        levels = make_label(self.assignment)
        return f"{self.control} ({levels})" if self.control and levels else self.control or levels


def make_label(assignment: Mapping[str, Any]) -> str:
    """Return the label of an assignment, such as "n_ctx=4, lr=0.1".

    A factor is shown by the last part of its name, or by its full name if the last part is not
    unique.
    """
    short_names = [name.rpartition(".")[2] for name in assignment]
    return ", ".join(
        f"{short if short_names.count(short) == 1 else name}={_format_level(level)}"
        for (name, level), short in zip(assignment.items(), short_names, strict=True)
    )


def _format_level(value: Any) -> str:
    """Return a level as text for a label: floats with four digits, strings without quotes."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return escape_controls(value) if isinstance(value, str) else show(value)


def find_plugins(trial: TrialConfig) -> dict[str, str]:
    """Return the plugins of a trial, e.g. {"finetuner ridge": "ship-example 0.1"}.

    The values are package and version, or a hash if the plugin is a file.
    """
    return find_plugin_identities(
        trial.generator.name,
        trial.finetuner.name,
        [trial.dataset, *trial.targets],
        trial.metrics,
    )


def format_plugins(trial: TrialConfig) -> str:
    """Return the plugins of a trial as text, such as "finetuner ridge: ship-example 0.1", or ""."""
    return "; ".join(f"{name}: {version}" for name, version in find_plugins(trial).items())


def compute_key(trial: TrialConfig, dataset_fingerprint: str, backbone_fingerprint: str) -> str:
    """Return a configuration's key: a hash of everything that determines a result except the seed.

    Args:
        trial: Resolved config of the trial. The key depends on every field, including those at
            their defaults, and on the versions of the trial's plugins.
        dataset_fingerprint: Hash of the images and labels.
        backbone_fingerprint: Hash of the weights and the architecture.

    Returns:
        16 hexadecimal digits of a SHA-256.
    """
    # Hash what values of the YAML stand for: null stands for the protocol's objective, and
    # "ensemble" for seven templates.
    trial_content = trial.model_dump(mode="json")
    trial_content["objective"] = trial.selection_metric
    if not trial.metrics:  # this field was added later; without metric plugins, keep the old keys
        del trial_content["metrics"]
    trial_content["templates"] = {
        dataset: trial.templates_for(dataset) for dataset in (trial.dataset, *trial.targets)
    }
    content = {
        "results_version": RESULTS_VERSION,
        "trial": trial_content,
        "plugins": find_plugins(trial),
        "dataset": dataset_fingerprint,
        "backbone": backbone_fingerprint,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ConfigurationMaker:
    """Factory of a study's configurations. Resolves assignments and computes keys.

    Attributes:
        study: The study.
        fingerprints: Fingerprints of its datasets and backbones.
    """

    study: StudyConfig
    fingerprints: Fingerprints

    def __call__(self, assignment: Mapping[str, Any]) -> Configuration:
        """Return the configuration of an assignment of the study's factors."""
        config = resolve(self.study, assignment)
        return Configuration(self.key(config), config, dict(assignment))

    def find_in_space(self, assignment: Mapping[str, Any]) -> Configuration | None:
        """Return the configuration of an assignment from an earlier version of the study.

        Factors that have been added to the study since then are set to their baselines.

        Returns:
            The configuration. None if the assignment is not in the study's space or is not valid.
        """
        completed = make_baseline(self.study, assignment)
        for candidate in (assignment, completed):
            if belongs(self.study, candidate):
                with suppress(ValueError):  # not valid for the present TrialConfig
                    return self(candidate)
        return None

    def find_run_configuration(self, run: RunRecord) -> Configuration | None:
        """Return the present study's configuration with a run's levels and key.

        Returns:
            The configuration. None if the study's space does not contain the levels, or if their
            key is another one, because constants, images or weights have changed.
        """
        configuration = self.find_in_space(run.assignment)
        is_same = configuration is not None and configuration.key == run.config_key
        return configuration if is_same else None

    def controls(self) -> list[Configuration]:
        """Return the study's controls at the baseline."""
        controls = resolve_controls(self.study).items()
        return [Configuration(self.key(config), config, {}, name) for name, config in controls]

    def find_equal(self, control: Configuration) -> Configuration | None:
        """Return the configuration of the study's space that equals a control, or None."""
        levels = {key: get_value(control.trial, key) for key in self.study.space}
        configuration = self.find_in_space(levels)
        is_same = configuration is not None and configuration.key == control.key
        return configuration if is_same else None

    def key(self, config: TrialConfig) -> str:
        """Return the key of a resolved config."""
        return compute_key(
            config,
            "+".join(map(self.fingerprints.dataset_fingerprint, (config.dataset, *config.targets))),
            self.fingerprints.backbone_fingerprint(config.backbone),
        )


def enumerate_configurations(maker: ConfigurationMaker) -> list[Configuration]:
    """Return the configurations of a study's space in order, without duplicates.

    Args:
        maker: Maker of the study's configurations.

    Returns:
        With the grid sampler, all configurations. With another sampler, at most the first
        `n_trials`, or [] if the space is infinite.
    """
    study = maker.study
    if study.sampler == "grid":
        return deduplicate([maker(assignment) for assignment in enumerate_grid(study)])
    if any(factor.list_values() is None for factor in study.space.values()):
        return []
    space = iter_assignments(study.space, lambda _, factor: factor.list_values())
    return deduplicate([maker(assignment) for assignment in islice(space, study.n_trials or 1)])


def list_proposed(history: RunHistory, maker: ConfigurationMaker) -> list[Configuration]:
    """Return the configurations that the sampler has proposed so far, in the order of their runs.

    Interrupted configurations come last, and are dropped if `n_trials` is reached without them.

    Args:
        history: Run history of the study.
        maker: Maker of the study's configurations. The study's sampler is not grid.
    """
    ended, interrupted = list[Configuration](), list[Configuration]()
    for run in history.runs:
        if run.control or not run.assignment:
            continue
        configuration = maker.find_run_configuration(run)
        if configuration is not None:
            (interrupted if run.state is State.INTERRUPTED else ended).append(configuration)
    n_kept = max(len(deduplicate(ended)), maker.study.n_trials or 0)
    return deduplicate([*ended, *interrupted])[:n_kept]


def deduplicate(configurations: Sequence[Configuration]) -> list[Configuration]:
    """Return the first configuration with each key, in order."""
    by_key: dict[str, Configuration] = {}
    for configuration in configurations:
        by_key.setdefault(configuration.key, configuration)
    return list(by_key.values())
