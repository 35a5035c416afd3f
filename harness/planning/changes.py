"""Finished rows that leave the table of an edited study: which, why, and whether they may."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.config import StudyConfig, baseline, reference_arms, resolve
from harness.errors import UserError
from harness.planning.plan import Plan
from harness.planning.settings import SettingMaker, plugins_text
from harness.store import Ledger, LedgerRun, StoredStudy, param_text, params
from harness.wording import count, duration
from reports.contract import State, Tag
from ship.trial_config import RESULTS_VERSION, TrialConfig

WAYS_OUT = (
    "--accept-changes runs their settings anew, --set name=ANOTHER starts a study beside this one; "
    "nothing is lost where the old value is put back"
)

# (setting key, seed) -> the seconds that a finished row took
Rows = dict[tuple[str, int], float]


@dataclass
class Changes:
    """What a study that has been edited leaves out of its table.

    changed: rows whose setting is still asked for, but under other constants, data, weights or
        another results version.
    removed: rows of levels, arms or seeds that the YAML does not ask for any more.
    differences: why `changed` is what it is, a line each.
    """

    changed: Rows = field(default_factory=dict)
    removed: Rows = field(default_factory=dict)
    differences: dict[str, None] = field(default_factory=dict)

    def text(self, source: str) -> str:
        """What has changed and what it costs, some lines; "" without `changed`."""
        if not self.changed:
            return ""
        left = f"{_rows_text(self.changed)} would leave the table, and stay in MLflow"
        return "\n  ".join([f"{source}: the study has changed:", *self.differences]) + f"\n{left}"

    def notes(self, source: str) -> list[str]:
        """What a dry run says of it."""
        notes = [f"{self.text(source)}\n{WAYS_OUT}"] if self.changed else []
        if self.removed:
            left = "leave the table: they are not asked for any more"
            notes.append(f"{_rows_text(self.removed)} {left}")
        return notes


def _rows_text(rows: Rows) -> str:
    """E.g. "6 finished rows of 3 settings (3.4 min of computing)"."""
    settings = count(len({key for key, _ in rows}), "setting")
    took = duration(sum(rows.values()))
    return f"{count(len(rows), 'finished row')} of {settings} ({took} of computing)"


class StudyChanged(UserError):
    """Finished rows would leave the table, and nobody has said that they may."""


def require_consent(
    changes: Changes, source: str, *, accepted: bool, ask: Callable[[str], bool] | None
) -> None:
    """Return if no finished row would leave the table by a change, or if such a change is accepted.

    Args:
        source: what messages call the study's YAML.
        accepted: by --accept-changes.
        ask: puts a question to a person and says whether the answer is yes; None: nobody is there.

    Raises:
        StudyChanged: it is not accepted.
    """
    text = changes.text(source)
    if not text or accepted:
        return
    if ask is None:
        raise StudyChanged(f"{text}\n{WAYS_OUT}")
    if not ask(f"{text}\n{WAYS_OUT}\nRun these settings anew?"):
        raise StudyChanged("nothing was run")


def compare(
    study: StudyConfig, plan: Plan, ledger: Ledger, stored: StoredStudy | None, maker: SettingMaker
) -> Changes:
    """The finished rows of the study's table as stored that are not wanted any more, and why.

    A row whose assignment, if it were asked for now, would still be the same setting has left with
    its level: `removed`. Where it would be another setting, a constant is why: `changed`.

    Args:
        study: as its YAML is now.
        plan: of that study.
        ledger: its rows.
        stored: its table when it was last worked on; None: nothing is known, so nothing left it.
        maker: gives the study's assignments their keys.
    """
    changes = Changes()
    if stored is None:
        return changes
    now = {setting.key for setting in (*plan.settings, *plan.equal_arms)}
    arms, constants = reference_arms(study), params(study.trial)
    levels = {key: [*map(param_text, had or ())] for key, had in stored.factors.items()}
    gone = {key for key, had in levels.items() if constants.get(key) not in had} - set(study.space)
    young = {key: one for key, one in baseline(study).items() if key not in stored.factors}

    def asked(arm: str, assignment: Mapping[str, Any]) -> TrialConfig | None:
        """What is asked for in a setting's place; None: an arm that is not.

        A younger factor stands at its baseline, as elsewhere. One that has become a constant has
        its value, unless that was one of the levels: then the others were removed.
        """
        kept = {key: value for key, value in assignment.items() if key not in gone}
        try:
            return arms.get(arm) if arm else resolve(study, {**young, **kept})
        except ValueError:  # the study's constants leave no room for such a level
            return study.trial

    why: dict[str, list[str]] = {}
    rows_of = ((key, *row) for key, of in ledger.by_key.items() for row in of.items())
    for key, seed, run in rows_of:
        stays = key in now and seed in study.seeds_of(key)
        if run.state is not State.COMPLETE or seed not in stored.seeds.get(key, ()) or stays:
            continue
        if key not in why:
            why[key] = []
            for one in () if key in now else stored.settings[key]:
                trial = asked(one.arm, one.assignment)
                if trial is not None and maker.key(trial) != key:
                    why[key] += _reasons(study, one.arm, run, trial, maker)
            changes.differences |= dict.fromkeys(why[key])
        rows = changes.changed if why[key] else changes.removed
        rows[key, seed] = (run.seconds or 0.0) / len(run.seeds)
    return changes


def _reasons(
    study: StudyConfig, arm: str, run: LedgerRun, asked: TrialConfig, maker: SettingMaker
) -> list[str]:
    """In what a row's trial differs from the one that is asked for, a line each."""
    before, after, lines = run.params, params(asked), list[str]()
    for name in dict.fromkeys([*after, *before]):
        group, dot, leaf = name.partition(".")
        # the settings of a method say nothing once another stands in its place
        if before.get(name) == after.get(name) or leaf == "name":
            continue
        if not dot or before.get(group) == after.get(group):
            path = f"space.{name}.baseline" if arm and name in study.space else name
            lines.append(f"{path}: {before.get(name, 'not set')} -> {after.get(name, 'not set')}")
    prints, tags = maker.fingerprints, {Tag.PLUGINS: "", **run.prints}
    decisive = (
        ("results version of the method", Tag.RESULTS_VERSION, str(RESULTS_VERSION)),
        ("backbone", Tag.BACKBONE_FINGERPRINT, prints.backbone(asked.backbone)),
        ("dataset", Tag.DATASET_FINGERPRINT, prints.dataset(asked.dataset)),
        ("plugins", Tag.PLUGINS, plugins_text(asked)),
    )
    for what, tag, now in decisive:
        then = tags.get(tag, now)
        if then != now and before.get(what) == after.get(what):
            name = f"what {what} {after[what]} holds" if what in after else what
            lines.append(f"{name}: {then or 'none'} -> {now or 'none'}")
    return lines or ["something that the store has not recorded, such as a target's pictures"]
