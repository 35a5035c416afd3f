"""Finished rows that leave the table of an edited study: which, why, and whether they may."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.config import StudyConfig, levels, may_be, reference_arms, resolve
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
MOST_SHOWN = 12

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
        listed = list(self.differences)
        if len(listed) > MOST_SHOWN:
            listed[MOST_SHOWN:] = [f"and {len(listed) - MOST_SHOWN} more"]
        left = f"{_rows_text(self.changed)} would leave the table, and stay in MLflow"
        return "\n  ".join([f"{source}: the study has changed:", *listed]) + f"\n{left}"

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
    why: dict[str, list[str]] = {}
    rows_of = ((key, *row) for key, of in ledger.by_key.items() for row in of.items())
    for key, seed, run in rows_of:
        stays = key in now and seed in study.seeds_of(key)
        if run.state is not State.COMPLETE or seed not in stored.seeds.get(key, ()) or stays:
            continue
        if key not in why:
            why[key] = []
            for one in () if key in now else stored.settings[key]:
                asked = arms.get(one.arm) if one.arm else _resolved(study, one.assignment)
                if asked is None:
                    continue
                own = [] if one.arm else list(_moved(study, stored, run, constants))
                if maker.key(asked) != key:
                    own += [*_edited(study, one.arm, run, asked), *_tag_lines(run, asked, maker)]
                    own = own or [_unrecorded(asked)]
                why[key] += own
            changes.differences |= dict.fromkeys(why[key])
        rows = changes.changed if why[key] else changes.removed
        rows[key, seed] = (run.seconds or 0.0) / len(run.seeds)
    return changes


def _resolved(study: StudyConfig, assignment: Mapping[str, Any]) -> TrialConfig:
    try:
        return resolve(study, assignment)
    except ValueError:  # the study's constants leave no room for such a level
        return study.trial


def _moved(
    study: StudyConfig, stored: StoredStudy, run: LedgerRun, constants: Mapping[str, str]
) -> Iterator[str]:
    """A constant that became a factor without a row's value, or a factor without the constant's."""
    for key, factor in study.space.items():
        before = run.params.get(key)
        if key not in stored.factors and before is not None:
            held = levels(study, key)
            if not (before in _texts(held) if held else may_be(factor, None, json.loads(before))):
                yield f"{key}: {before} -> {_varied(held)}"
    for key, varied in stored.factors.items():
        if key not in study.space and constants.get(key) not in _texts(varied):
            yield f"{key}: {_varied(varied)} -> {constants.get(key, 'not set')}"


def _edited(study: StudyConfig, arm: str, run: LedgerRun, asked: TrialConfig) -> Iterator[str]:
    """The keys of a row's trial that are others now, with both values."""
    before, after = run.params, params(asked)
    for name in dict.fromkeys([*after, *before]):
        group, dot, leaf = name.partition(".")
        # the settings of a method say nothing once another stands in its place
        if before.get(name) == after.get(name) or leaf == "name":
            continue
        if not dot or before.get(group) == after.get(group):
            path = f"space.{name}.baseline" if arm and name in study.space else name
            yield f"{path}: {before.get(name, 'not set')} -> {after.get(name, 'not set')}"


def _texts(values: Sequence[Any] | None) -> list[str]:
    return [param_text(value) for value in values or ()]


def _varied(held: Sequence[Any] | None) -> str:
    return f"varied over {', '.join(_texts(held))}" if held else "varied"


def _tag_lines(run: LedgerRun, config: TrialConfig, maker: SettingMaker) -> Iterator[str]:
    """What else decides a result; nothing of what a run's tags do not tell."""
    tags = run.prints
    version = tags.get(Tag.RESULTS_VERSION, str(RESULTS_VERSION))
    if version != str(RESULTS_VERSION):
        yield f"results version of the method: {version} -> {RESULTS_VERSION}"
    kept = {
        "backbone": (Tag.BACKBONE_FINGERPRINT, "weights than before, under the same name"),
        "dataset": (Tag.DATASET_FINGERPRINT, "pictures, names or splits than before"),
    }
    for kind, (tag, other) in kept.items():
        name = getattr(config, kind)
        now = getattr(maker.fingerprints, kind)(name)
        if run.params.get(kind) == name and tags.get(tag, now) != now:
            yield f"{kind} {name}: other {other}"
    old, new = (_plugins(text) for text in (tags.get(Tag.PLUGINS, ""), plugins_text(config)))
    for name in dict.fromkeys([*new, *old]):
        if old.get(name) != new.get(name):
            yield f"plugin {name}: {old.get(name, 'none')} -> {new.get(name, 'none')}"


def _unrecorded(config: TrialConfig) -> str:
    if config.targets:
        return f"targets {', '.join(config.targets)}: other pictures or labels than before"
    return "something that the store has not recorded"


def _plugins(text: str) -> dict[str, str]:
    """What plugins_text says: of each plugin its version, or its file's first digits."""
    parts = (part.partition(": ") for part in text.split("; ") if part)
    return {name: what[:19] if what.startswith("sha256:") else what for name, _, what in parts}
