"""Finds the finished rows that leave a study's table, and whether a change of it is why."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.config import StudyConfig, distributions, levels, reference_arms, resolve
from harness.planning.changes import Changes
from harness.planning.plan import Plan
from harness.planning.settings import SettingMaker, contains, plugins_text
from harness.store import Ledger, LedgerRun, Recorded, param_text, params
from reports.contract import State, Tag
from ship.trial_config import RESULTS_VERSION, TrialConfig

# groups whose own settings say nothing once another variant stands in their place
_GROUPS = ("generator", "finetuner")


def compare(
    study: StudyConfig, plan: Plan, ledger: Ledger, recorded: Recorded | None, maker: SettingMaker
) -> Changes:
    """The finished rows of the study's table as recorded that are not wanted any more, and why.

    A row whose assignment, if it were asked for now, would still be the same setting has left with
    its level: `removed`. Where it would be another setting, a constant is why: `changed`.

    Args:
        study: as its YAML is now.
        plan: of that study.
        ledger: its rows.
        recorded: its table when it was last worked on; None: nothing is known, so nothing left it.
        maker: gives the study's assignments their keys.
    """
    changes = Changes()
    if recorded is None:
        return changes
    now = {setting.key for setting in (*plan.settings, *plan.twins)}
    edit = _Edit(study, recorded, maker)
    why: dict[str, tuple[str, ...]] = {}
    for (key, seed), run in ledger.rows.items():
        in_table = key in recorded.keys and seed in recorded.seeds_of(key)
        stays = key in now and seed in study.seeds_of(key)
        if run.state is not State.COMPLETE or not in_table or stays:
            continue
        if key not in why:
            why[key] = () if key in now else tuple(edit.reasons(run))
            changes.differences |= dict.fromkeys(why[key])
        (changes.changed if why[key] else changes.removed).add(key, seed, run)
    return changes


@dataclass(frozen=True)
class _Edit:
    """A study as it is now beside its table as recorded; what all rows ask for is made once."""

    study: StudyConfig
    recorded: Recorded
    maker: SettingMaker

    @cached_property
    def arms(self) -> Mapping[str, TrialConfig]:
        return reference_arms(self.study)

    @cached_property
    def constants(self) -> Mapping[str, str]:
        return params(self.study.trial)

    @cached_property
    def allowed(self) -> Mapping[str, frozenset[str] | None]:
        """Factor -> its levels as MLflow has them; None: values are drawn from a range."""
        return {key: _texts(levels(self.study, key)) for key in self.study.space}

    @cached_property
    def held(self) -> Mapping[str, frozenset[str]]:
        """Factor of the table as recorded -> its levels as MLflow has them."""
        return {
            key: _texts(held or ()) or frozenset() for key, held in self.recorded.factors.items()
        }

    def reasons(self, run: LedgerRun) -> Iterator[str]:
        """Why the setting of a run is another one now, a line each; none where it was removed."""
        for wanted in self.recorded.by_key.get(run.setting_key, ()):
            if wanted.arm:
                config = self.arms.get(wanted.arm)
            else:
                yield from self.moved(run)
                config = _resolved(self.study, wanted.assignment)
            if config is not None and self.maker.key(config) != run.setting_key:
                told = list(self.differences(run, config, arm=bool(wanted.arm)))
                targets = (
                    f"targets {', '.join(config.targets)}: other pictures or labels than before"
                )
                unknown = targets if config.targets else "something that the store has not recorded"
                yield from told or [unknown]

    def differences(self, run: LedgerRun, config: TrialConfig, *, arm: bool) -> Iterator[str]:
        """Key, old and new value of each setting that differs; then data, weights, version.

        Args:
            run: with the old values, as MLflow has them.
            config: with the new ones.
            arm: whether it is of a reference arm, which has each factor at its baseline.

        Returns:
            A line for people each.
        """
        old, new = run.params, params(config)
        other = [group for group in _GROUPS if old.get(group) != new.get(group)]
        for name in dict.fromkeys([*new, *old]):
            inside = name.partition(".")[0] in other and "." in name
            if old.get(name) == new.get(name) or inside or name.endswith(".name"):
                continue
            # an arm stands at the factors' baselines
            shown = f"space.{name}.baseline" if arm and name in self.study.space else name
            yield f"{shown}: {old.get(name, 'not set')} -> {new.get(name, 'not set')}"
        yield from _prints(run, config, self.maker)

    def moved(self, run: LedgerRun) -> Iterator[str]:
        """Constants that are factors now, without their value; factors that are other constants."""
        old, new = run.params, self.constants
        for key in self.study.space:
            if key not in self.recorded.factors and key in old and not self.allows(key, old[key]):
                yield f"{key}: {old[key]} -> varied{_listed(levels(self.study, key))}"
        for key, held in self.recorded.factors.items():
            if key not in self.study.space and new.get(key) not in self.held[key]:
                yield f"{key}: varied{_listed(held)} -> {new.get(key, 'not set')}"

    def allows(self, key: str, text: str) -> bool:
        """Whether a factor may have a value, given as MLflow has it."""
        allowed = self.allowed[key]
        if allowed is not None:
            return text in allowed
        try:
            return contains(distributions(self.study)[key], float(text))
        except ValueError:
            return False


def _resolved(study: StudyConfig, assignment: Mapping[str, Any]) -> TrialConfig:
    try:
        return resolve(study, assignment)
    except ValueError:  # the study's constants leave no room for such a level
        return study.trial


def _prints(run: LedgerRun, config: TrialConfig, maker: SettingMaker) -> Iterator[str]:
    """What else decides a result; nothing of what a run's tags do not tell."""
    prints, held = maker.fingerprints, run.prints
    if held.get(Tag.RESULTS_VERSION, str(RESULTS_VERSION)) != str(RESULTS_VERSION):
        yield f"results version of the method: {held[Tag.RESULTS_VERSION]} -> {RESULTS_VERSION}"
    weights, pictures = prints.backbone(config.backbone), prints.dataset(config.dataset)
    same = run.params.get("backbone") == config.backbone
    if same and held.get(Tag.BACKBONE_FINGERPRINT, weights) != weights:
        yield f"backbone {config.backbone}: other weights than before, under the same name"
    same = run.params.get("dataset") == config.dataset
    if same and held.get(Tag.DATASET_FINGERPRINT, pictures) != pictures:
        yield f"dataset {config.dataset}: other pictures, labels or splits than before"
    old, new = (_plugins(text) for text in (held.get(Tag.PLUGINS, ""), plugins_text(config)))
    for name in dict.fromkeys([*new, *old]):
        if old.get(name) != new.get(name):
            yield f"plugin {name}: {old.get(name, 'none')} -> {new.get(name, 'none')}"


def _plugins(text: str) -> dict[str, str]:
    """What plugins_text says: of each plugin its version, or its file's first digits."""
    parts = (part.partition(": ") for part in text.split("; ") if part)
    return {name: what[:19] if what.startswith("sha256:") else what for name, _, what in parts}


def _texts(values: Iterable[Any] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(map(param_text, values))


def _listed(values: Iterable[Any] | None) -> str:
    return "" if values is None else f" over {', '.join(map(param_text, values))}"
