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
from harness.wording import printable, show
from ship.plugins import find_plugin_identities
from ship.trial_config import RESULTS_VERSION, TrialConfig


@dataclass(frozen=True)
class Configuration:
    """One configuration of a study, or a control.

    Attributes:
        key: Key of the configuration in the run history.
        trial: Resolved parameters of its trial.
        assignment: Levels of the study's factors by dotted name. For a control these are the
            factors that it reads, and {} if it is at the baseline.
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
        f"{short if short_names.count(short) == 1 else name}={_format_level(value)}"
        for (name, value), short in zip(assignment.items(), short_names, strict=True)
    )


def _format_level(value: Any) -> str:
    """Return a level as text for a label: floats with four digits, strings without quotes."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(value) if isinstance(value, str) else show(value)


def find_plugins(trial: TrialConfig) -> dict[str, str]:
    """Return the plugins of a trial with their versions, or a hash if a plugin is a file.

    For example {"finetuner ridge": "ship-example 0.1"}.
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
        trial: Resolved config of the trial. Every field counts, including defaults, so that a
            changed default makes another configuration. So do the versions of plugins.
        dataset_fingerprint: Hash of the images and labels.
        backbone_fingerprint: Hash of the weights and the architecture.

    Returns:
        16 hexadecimal digits of a SHA-256.
    """
    # Hash resolved values, not their names in the YAML: null means the protocol's objective,
    # "ensemble" means seven templates.
    trial_content = trial.model_dump(mode="json")
    trial_content["objective"] = trial.selection_metric
    if not trial.metrics:  # a study without metric plugins has the keys that it had before them
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
    """Maker of a study's configurations: it resolves assignments and computes their keys.

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
        """Return the configuration of an older assignment, or None if the space lacks it.

        A factor that was added to the study later is at its baseline.
        """
        completed = make_baseline(self.study, assignment)
        for candidate in (assignment, completed):
            if belongs(self.study, candidate):
                with suppress(ValueError):  # the present TrialConfig may refuse it
                    return self(candidate)
        return None

    def find_run_configuration(self, run: RunRecord) -> Configuration | None:
        """Return the configuration of a run, or None if the present study lacks it.

        A changed constant, image or weight makes another configuration.
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
    """Return at most `n_trials` configurations of a space in order. [] if the space is infinite.

    Args:
        maker: Maker of the study's configurations.
    """
    study = maker.study
    if study.sampler == "grid":
        return deduplicate([maker(assignment) for assignment in enumerate_grid(study)])
    if any(factor.list_values() is None for factor in study.space.values()):
        return []
    space = iter_assignments(study.space, lambda _, factor: factor.list_values())
    return deduplicate([maker(assignment) for assignment in islice(space, study.n_trials or 1)])


def list_proposed(history: RunHistory, maker: ConfigurationMaker) -> list[Configuration]:
    """Return the configurations that a sampler proposed before, in the order they began.

    Interrupted configurations come last, and are dropped if `n_trials` is reached without them.

    Args:
        history: Run history of the study.
        maker: Maker of the configurations of a study with a sampler.
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
    """Return configurations without duplicates. The first one with a key is kept."""
    by_key: dict[str, Configuration] = {}
    for configuration in configurations:
        by_key.setdefault(configuration.key, configuration)
    return [*by_key.values()]
