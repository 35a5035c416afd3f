"""Finished rows that leave a study's table: whether a change is why, and whether it may be."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.config import StudyConfig, distributions, levels, reference_arms, resolve
from harness.errors import UserError
from harness.planning.plan import Plan
from harness.planning.settings import SettingMaker, contains
from harness.store import (
    Ledger,
    LedgerRun,
    Recorded,
    param_text,
    params,
)
from reports.contract import State, Tag
from ship.trial_config import RESULTS_VERSION, TrialConfig

WAYS_OUT = (
    "--accept-changes runs their settings anew, --set name=ANOTHER starts a study beside this one; "
    "nothing is lost where the old value is put back"
)
MOST_SHOWN = 12
# groups whose own settings say nothing once another variant stands in their place
_GROUPS = ("generator", "finetuner")


@dataclass
class Rows:
    """Finished rows: (key, seed) -> the seconds that one took."""

    seconds: dict[tuple[str, int], float] = field(default_factory=dict)

    def add(self, key: str, seed: int, run: LedgerRun) -> None:
        """Count a row of a run."""
        self.seconds[key, seed] = (run.seconds or 0.0) / len(run.seeds)

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def text(self) -> str:
        """E.g. "6 finished rows of 3 settings (3.4 min of computing)"."""
        from harness.wording import duration

        settings = len({key for key, _ in self.seconds})
        many = f"{len(self)} finished row{'s' * (len(self) != 1)}"
        of = f"{settings} setting{'s' * (settings != 1)}"
        return f"{many} of {of} ({duration(sum(self.seconds.values()))} of computing)"


@dataclass
class Changes:
    """What a study that has been edited leaves out of its table.

    changed: rows whose setting is still asked for, but under other constants, data, weights or
        another results version.
    removed: rows of levels, arms or seeds that the YAML does not ask for any more.
    differences: why `changed` is what it is, a line each.
    """

    changed: Rows = field(default_factory=Rows)
    removed: Rows = field(default_factory=Rows)
    differences: dict[str, None] = field(default_factory=dict)

    def text(self, source: str) -> str:
        """What has changed and what it costs, some lines; "" without `changed`."""
        if not self.changed:
            return ""
        listed = list(self.differences)
        more = [f"and {len(listed) - MOST_SHOWN} more"] if len(listed) > MOST_SHOWN else []
        lines = [f"  {line}" for line in [*listed[:MOST_SHOWN], *more]]
        return "\n".join(
            [
                f"{source}: the study has changed:",
                *lines,
                f"{self.changed.text} would leave the table, and stay in MLflow",
            ]
        )


class StudyChanged(UserError):
    """Finished rows would leave the table, and nobody has said that they may."""


@dataclass(frozen=True)
class Consent:
    """Whether finished rows may leave.

    accepted: they may, by --accept-changes.
    ask: puts a question to a person and says whether the answer is yes; None: nobody is there.
    """

    accepted: bool = False
    ask: Callable[[str], bool] | None = None

    def check(self, changes: Changes, source: str) -> None:
        """Return if nothing changed that matters, or the change is accepted.

        Raises:
            StudyChanged: it is not.
        """
        text = changes.text(source)
        if not text or self.accepted:
            return
        if self.ask is None:
            raise StudyChanged(f"{text}\n{WAYS_OUT}")
        if not self.ask(f"{text}\n{WAYS_OUT}\nRun these settings anew?"):
            raise StudyChanged("nothing was run")


def compare(
    study: StudyConfig, plan: Plan, ledger: Ledger, recorded: Recorded | None, maker: SettingMaker
) -> Changes:
    """The finished rows of the study's table as recorded that are not wanted any more, and why.

    A row whose assignment, if it were asked for now, would still be the same setting has left with
    its level: `removed`. Where it would be another setting, a constant is why: `changed`.
    """
    changes = Changes()
    if recorded is None:
        return changes
    now = {setting.key for setting in (*plan.settings, *plan.twins)}
    why: dict[str, tuple[str, ...]] = {}
    for (key, seed), run in ledger.rows.items():
        in_table = key in recorded.keys and seed in recorded.seeds
        stays = key in now and seed in study.seeds
        if run.state is not State.COMPLETE or not in_table or stays:
            continue
        if key not in why:
            why[key] = () if key in now else tuple(_reasons(study, run, recorded, maker))
        changes.differences |= dict.fromkeys(why[key])
        (changes.changed if why[key] else changes.removed).add(key, seed, run)
    return changes


def _reasons(
    study: StudyConfig, run: LedgerRun, recorded: Recorded, maker: SettingMaker
) -> Iterator[str]:
    """Why the setting of a run is another one now, a line each; none where it was removed."""
    for wanted in recorded.wanted:
        if wanted.key != run.setting_key:
            continue
        if wanted.arm:
            config = reference_arms(study).get(wanted.arm)
        else:
            yield from _moved(study, run, recorded)
            config = _resolved(study, wanted.assignment)
        if config is not None and maker.key(config) != run.setting_key:
            lines = list(_differences(study, run, config, maker, arm=bool(wanted.arm)))
            targets = f"targets {', '.join(config.targets)}: other pictures or labels than before"
            unknown = targets if config.targets else "something that the store has not recorded"
            yield from lines or [unknown]


def _resolved(study: StudyConfig, assignment: Mapping[str, Any]) -> TrialConfig:
    try:
        return resolve(study, assignment)
    except ValueError:  # the study's constants leave no room for such a level
        return study.trial


def _differences(
    study: StudyConfig, run: LedgerRun, config: TrialConfig, maker: SettingMaker, *, arm: bool
) -> Iterator[str]:
    """Key, old and new value of each setting that differs; then data, weights, results version."""
    old, new = run.params, params(config)
    other = [group for group in _GROUPS if old.get(group) != new.get(group)]
    for name in dict.fromkeys([*new, *old]):
        inside = name.partition(".")[0] in other and "." in name
        if old.get(name) == new.get(name) or inside or name.endswith(".name"):
            continue
        # an arm stands at the factors' baselines
        shown = f"space.{name}.baseline" if arm and name in study.space else name
        yield f"{shown}: {old.get(name, 'not set')} -> {new.get(name, 'not set')}"
    yield from _prints(run, config, maker)


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


def _moved(study: StudyConfig, run: LedgerRun, recorded: Recorded) -> Iterator[str]:
    """Constants that became factors without their value, and the other way round."""
    old, new = run.params, params(study.trial)
    for key in study.space:
        if key not in recorded.factors and key in old and not _allows(study, key, old[key]):
            yield f"{key}: {old[key]} -> varied{_listed(levels(study, key))}"
    for key, held in recorded.factors.items():
        if key not in study.space and new.get(key) not in {param_text(v) for v in held or ()}:
            yield f"{key}: varied{_listed(held)} -> {new.get(key, 'not set')}"


def _allows(study: StudyConfig, key: str, text: str) -> bool:
    """Whether a factor may have a value, given as MLflow has it."""
    listed = levels(study, key)
    if listed is not None:
        return text in {param_text(value) for value in listed}
    try:
        return contains(distributions(study)[key], float(text))
    except ValueError:
        return False


def _listed(values: Iterable[Any] | None) -> str:
    return "" if values is None else f" over {', '.join(map(param_text, values))}"
