"""Finished rows that leave the table of an edited study: which, why, and whether they may."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from harness.config import StudyConfig, levels, reference_arms, resolve
from harness.errors import UserError
from harness.planning.plan import Plan
from harness.planning.settings import SettingMaker, plugins_text
from harness.store import Ledger, LedgerRun, StoredStudy, param_text, params, study_texts
from harness.wording import duration
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
    settings = len({key for key, _ in rows})
    many = f"{len(rows)} finished row{'s' * (len(rows) != 1)}"
    of = f"{settings} setting{'s' * (settings != 1)}"
    return f"{many} of {of} ({duration(sum(rows.values()))} of computing)"


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
    arms, moved, lines = reference_arms(study), *_differences(study, stored)
    why: dict[str, list[str]] = {}
    for (key, seed), run in ledger.rows.items():
        stays = key in now and seed in study.seeds_of(key)
        if run.state is not State.COMPLETE or seed not in stored.seeds.get(key, ()) or stays:
            continue
        if key not in why:
            why[key] = []
            for one in () if key in now else stored.settings[key]:
                asked = arms.get(one.arm) if one.arm else _resolved(study, one.assignment)
                if asked is None:
                    continue
                own = _of_row(run, asked, lines)
                if maker.key(asked) != key:
                    edited = own if run.params != params(asked) else []
                    why[key] += [*edited, *_tag_lines(run, asked, maker)] or [_unrecorded(asked)]
                elif moved and not one.arm:
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


def _differences(study: StudyConfig, stored: StoredStudy) -> tuple[bool, list[str]]:
    """Key, old and new value of what decides results in a study, a line for people each.

    Returns:
        Whether a constant became a factor without its value as a level, or the other way round;
        and the lines.
    """
    old, new = dict(stored.texts), study_texts(study.model_dump(mode="json"))
    # the settings of a method say nothing once another stands in its place
    other = [key for key in ("generator", "finetuner") if old.get(key) != new.get(key)]
    moved = set()
    for key in dict.fromkeys([*study.space, *stored.factors]):
        before, after = old.pop(key, None), new.pop(key, None)
        if key not in stored.factors and before is not None:
            held = levels(study, key)
            if not (_within(study, key, before) if held is None else before in _texts(held)):
                moved.add(key)
                old[key], new[key] = before, _varied(held)
        elif key not in study.space and after not in _texts(stored.factors[key]):
            moved.add(key)
            old[key], new[key] = _varied(stored.factors[key]), after or "not set"
    lines = [
        f"{name}: {old.get(name, 'not set')} -> {new.get(name, 'not set')}"
        for name in dict.fromkeys([*new, *old])
        if old.get(name) != new.get(name)
        and not name.endswith(".name")
        and not ("." in name and name.partition(".")[0] in other)
    ]
    return bool(moved), lines


def _of_row(run: LedgerRun, config: TrialConfig, lines: Sequence[str]) -> list[str]:
    """The lines without those of variants that neither a row nor what it would be now has."""
    groups, rows = ("generator", "finetuner", "dataset"), (run.params, params(config))
    own = tuple(f"variants.{group}.{row.get(group)}." for group in groups for row in rows)
    return [line for line in lines if not line.startswith("variants.") or line.startswith(own)]


def _within(study: StudyConfig, key: str, text: str) -> bool:
    """Whether a range holds a value, given as MLflow has it."""
    low, high = study.space[key].bounds
    with suppress(ValueError):
        return low <= float(text) <= high
    return False


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
