"""The settings of a study: resolved assignments, with the keys that the ledger knows them by."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from harness.config import (
    StudyConfig,
    assignments,
    baseline,
    belongs,
    grid,
    reference_arms,
    resolve,
    value_of,
)
from harness.planning.fingerprints import Fingerprints
from harness.store import RunHistory, RunRecord, State
from harness.wording import printable, show
from ship.plugins import identities
from ship.trial_config import RESULTS_VERSION, TrialConfig


@dataclass(frozen=True)
class Setting:
    """One parameter assignment (or reference arm), resolved.

    key: the setting's key in the ledger.
    assignment: the study's factors, dotted name -> value; of a reference arm at other levels than
        the baseline's, the factors that it reads; {} of one at the baseline.
    arm: the reference arm's name, or "".
    """

    key: str
    config: TrialConfig
    assignment: Mapping[str, Any] = field(default_factory=dict)
    arm: str = ""

    @property
    def label(self) -> str:
        """A short name for people, e.g. "n_ctx=4, kl_weight=0.1" or "no_synthetic (lr=0.1)"."""
        levels = label_of(self.assignment)
        return f"{self.arm} ({levels})" if self.arm and levels else self.arm or levels


def label_of(assignment: Mapping[str, Any]) -> str:
    """A setting's short name: the last part of each factor's, or the whole where two end alike."""
    last = [name.rpartition(".")[2] for name in assignment]
    return ", ".join(
        f"{short if last.count(short) == 1 else name}={_short(value)}"
        for (name, value), short in zip(assignment.items(), last, strict=True)
    )


def _short(value: Any) -> str:
    """A level in a label: four digits of a float, a name without quotes."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(value) if isinstance(value, str) else show(value)


def plugins_of(trial: TrialConfig) -> dict[str, str]:
    """The plugins that a setting uses: "finetuner ridge" -> "ship-example 0.1", or a hash."""
    return identities(trial.generator.name, trial.finetuner.name, [trial.dataset, *trial.targets])


def plugins_text(trial: TrialConfig) -> str:
    """The plugins of a setting for people, "finetuner ridge: ship-example 0.1; ..."; "": none."""
    return "; ".join(f"{name}: {what}" for name, what in plugins_of(trial).items())


def setting_key(trial: TrialConfig, dataset_fingerprint: str, backbone_fingerprint: str) -> str:
    """16 hexadecimal digits of SHA-256 over everything that, with a seed, decides a result.

    Args:
        trial: the resolved setting; every field counts, defaults too, so that a changed default
            is a changed setting, and the version of each plugin that it uses.
        dataset_fingerprint: identity of the pictures and labels.
        backbone_fingerprint: identity of weights and architecture.
    """
    # hash what is trained, whichever name in the YAML stands for it: null for the protocol's own
    # objective, "ensemble" for its seven sentences
    trial_content = trial.model_dump(mode="json")
    trial_content["objective"] = trial.selection_metric
    trial_content["templates"] = {
        dataset: trial.templates_for(dataset) for dataset in (trial.dataset, *trial.targets)
    }
    content = {
        "results_version": RESULTS_VERSION,
        "trial": trial_content,
        "plugins": plugins_of(trial),
        "dataset": dataset_fingerprint,
        "backbone": backbone_fingerprint,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class SettingMaker:
    """Resolves assignments of a study and gives them their keys."""

    study: StudyConfig
    fingerprints: Fingerprints

    def __call__(self, assignment: Mapping[str, Any]) -> Setting:
        """The setting of an assignment of the study's factors."""
        config = resolve(self.study, assignment)
        return Setting(self.key(config), config, dict(assignment))

    def of_old(self, assignment: Mapping[str, Any]) -> Setting | None:
        """The same of an assignment of old; None where the study's space does not have it.

        A factor that is younger than the assignment stands at its baseline.
        """
        young = baseline(self.study, assignment)
        for one in (assignment, young):
            if belongs(self.study, one):
                with suppress(ValueError):  # the TrialConfig of today may refuse it
                    return self(one)
        return None

    def still(self, run: RunRecord) -> Setting | None:
        """The setting of a run, if it is one of the study as it is now, under the same key.

        A changed constant, picture or weight makes it another setting.
        """
        found = self.of_old(run.assignment)
        return found if found is not None and found.key == run.setting_key else None

    def arms(self) -> list[Setting]:
        """The study's reference arms at the baseline, [] if it has none."""
        arms = reference_arms(self.study).items()
        return [Setting(self.key(config), config, {}, name) for name, config in arms]

    def equal_to(self, arm: Setting) -> Setting | None:
        """The setting of the study's space that a reference arm is; None where it has none."""
        found = self.of_old({key: value_of(arm.config, key) for key in self.study.space})
        return found if found is not None and found.key == arm.key else None

    def key(self, config: TrialConfig) -> str:
        """The key of a resolved setting."""
        return setting_key(
            config,
            "+".join(map(self.fingerprints.dataset, (config.dataset, *config.targets))),
            self.fingerprints.backbone(config.backbone),
        )


def enumerate_settings(maker: SettingMaker) -> list[Setting]:
    """The settings of a space in order, `trials` of them at most; [] for one that does not end.

    Args:
        maker: of a grid study, or of one with a sampler.
    """
    study = maker.study
    if study.sampler == "grid":
        return distinct([maker(assignment) for assignment in grid(study)])
    if any(factor.drawn() is None for factor in study.space.values()):
        return []
    space = assignments(study.space, lambda _, factor: factor.drawn())
    return distinct([maker(found) for found in islice(space, study.trials or 1)])


def known_settings(ledger: RunHistory, maker: SettingMaker) -> list[Setting]:
    """The settings that earlier runs of a tpe or random study proposed, in the order they began.

    One that was cut short goes on as long as the study has room for it (`trials`).

    Args:
        ledger: what the store has of the study.
        maker: of a study with a sampler other than grid.
    """
    settings: dict[bool, list[Setting]] = {False: [], True: []}  # by whether it was cut short
    for run in ledger.runs:
        if not run.arm and run.assignment and (setting := maker.still(run)):
            settings[run.state is State.INTERRUPTED].append(setting)
    ended = distinct(settings[False])
    return distinct([*ended, *settings[True]])[: max(len(ended), maker.study.trials or 0)]


def distinct(settings: Sequence[Setting]) -> list[Setting]:
    """Each setting once, as it first came."""
    first = {setting.key: setting for setting in reversed(settings)}
    return [first[key] for key in dict.fromkeys(setting.key for setting in settings)]
