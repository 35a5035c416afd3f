"""Finished rows that leave the table of an edited study, and those that other studies lend it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from harness.config import StudyConfig, baseline, control_at, reference_arms, resolve
from harness.errors import UserError
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan, Work, make_plan, study_prunes
from harness.planning.settings import SettingMaker, plugins_text
from harness.store import (
    LOAD,
    RIVALS,
    Cost,
    RunHistory,
    RunRecord,
    State,
    StudyRecord,
    Tag,
    param_text,
    params,
    seed_metric,
    split_curve,
)
from harness.wording import count, duration
from ship.trial_config import RESULTS_VERSION, TrialConfig

WAYS_OUT = (
    "Use accept_changes (--accept-changes) to rerun their settings, or name=ANOTHER to start "
    "another study. With the old values they return to the table"
)
MOST_SHOWN = 12

# (setting key, seed) -> the seconds that a finished row took
Rows = dict[tuple[str, int], float]


@dataclass
class TableChanges:
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
        """What has changed, what it costs, and the ways out; "" without `changed`."""
        if not self.changed:
            return ""
        listed = [*self.differences]
        if len(listed) > MOST_SHOWN:
            listed[MOST_SHOWN:] = [f"and {len(listed) - MOST_SHOWN} more"]
        lines = "\n  ".join([f"{source}: the study has changed:", *listed])
        left = f"{_rows_text(self.changed)} would leave the table, and stay in MLflow"
        return f"{lines}\n{left}\n{WAYS_OUT}"

    def notes(self, source: str) -> list[str]:
        """What a dry run says of it."""
        left = "leave the table: they are not asked for any more"
        removed = f"{_rows_text(self.removed)} {left}" if self.removed else ""
        return [note for note in (self.text(source), removed) if note]


def _rows_text(rows: Rows) -> str:
    """E.g. "6 finished rows of 3 settings (3.4 min of computing)"."""
    settings = count(len({key for key, _ in rows}), "setting")
    took = duration(sum(rows.values()))
    return f"{count(len(rows), 'finished row')} of {settings} ({took} of computing)"


class StudyChanged(UserError):
    """Finished rows would leave the table of a study that has changed."""


def refuse_changes(changes: TableChanges, source: str) -> None:
    """Raise an error if finished rows would leave the table by a change of the study.

    Args:
        changes: Rows that would leave the table, and why.
        source: Name of the study's YAML in messages.

    Raises:
        StudyChanged: Finished rows would leave the table.
    """
    if text := changes.text(source):
        raise StudyChanged(text)


def compare(
    maker: SettingMaker, plan: Plan, ledger: RunHistory, stored: StudyRecord
) -> TableChanges:
    """The finished rows of the study's table as stored that are not wanted any more, and why.

    A row whose assignment, if it were asked for now, would still be the same setting has left with
    its level: `removed`. Where it would be another setting, a constant is why: `changed`.

    Args:
        maker: of the settings of the study, as its YAML is now.
        plan: of that study.
        ledger: its rows.
        stored: its table when it was last worked on; what is not in it has not left it.
    """
    changes, study = TableChanges(), maker.study
    now = {setting.key for setting in (*plan.settings, *plan.equal_arms)}
    arms, constants = reference_arms(study), params(study.trial)
    had = {factor.key: [*map(param_text, factor.levels or ())] for factor in stored.factors}
    # factors that have become a constant of a value that was none of their levels
    gone = {key for key in had if key not in study.space and constants.get(key) not in had[key]}

    def asked(run: RunRecord) -> TrialConfig | None:
        """What is asked for in the place of a run's setting; None: an arm that is not.

        A factor that it lacks stands at its baseline, as elsewhere. One that has become a constant
        has its value, unless that was one of the levels: then the others were removed.
        """
        if run.arm and not run.assignment:
            return arms.get(run.arm)
        found = {key: value for key, value in run.assignment.items() if key not in gone}
        try:
            if run.arm:
                is_wanted = arms and run.arm in RIVALS
                return control_at(study, run.arm, found) if is_wanted else None
            return resolve(study, found | baseline(study, found))
        except ValueError:  # the study's constants leave no room for such a level
            return study.trial

    listed_keys = {configuration.key for configuration in stored.configurations}
    for key, held in ledger.by_key.items():
        listed = stored.seeds if key in listed_keys else ()
        stay = study.seeds if key in now else ()
        leaving = {
            seed: run
            for seed, run in held.items()
            if run.state is State.COMPLETE and seed in listed and seed not in stay
        }
        if not leaving:
            continue
        run = next(iter(leaving.values()))
        trial = None if key in now else asked(run)
        why = _reasons(maker, run, trial) if trial and maker.key(trial) != key else []
        changes.differences |= dict.fromkeys(why)
        rows = changes.changed if why else changes.removed
        rows |= {
            (key, seed): (run.seconds or 0.0) / len(run.seeds) for seed, run in leaving.items()
        }
    return changes


def _reasons(maker: SettingMaker, run: RunRecord, asked: TrialConfig) -> list[str]:
    """In what a row's trial differs from the one that is asked for, a line each."""
    before, after, lines = run.logged.params, params(asked), list[str]()
    for name in dict.fromkeys([*after, *before]):
        group, dot, leaf = name.partition(".")
        # the settings of a method say nothing once another stands in its place
        if before.get(name) == after.get(name) or leaf == "name":
            continue
        if not dot or before.get(group) == after.get(group):
            path = f"space.{name}.baseline" if run.arm and name in maker.study.space else name
            lines.append(f"{path}: {before.get(name, 'not set')} -> {after.get(name, 'not set')}")
    prints, tags = maker.fingerprints, {Tag.PLUGINS: "", **run.logged.tags}
    decisive = (
        ("results version of the method", Tag.RESULTS_VERSION, str(RESULTS_VERSION)),
        ("backbone", Tag.BACKBONE_FINGERPRINT, prints.backbone(asked.backbone)),
        ("dataset", Tag.DATASET_FINGERPRINT, prints.dataset(asked.dataset)),
        ("plugins", Tag.PLUGINS, plugins_text(asked)),
    )
    for what, tag, now in decisive:
        then = tags.get(tag, now)
        if then != now and before.get(what) == after.get(what):
            other = f"{what} {after.get(what)}: other content than before, under the same name"
            lines.append(other if what in after else f"{what}: {then or 'none'} -> {now or 'none'}")
    return lines or ["something that the store has not recorded, such as a target's pictures"]


@dataclass(frozen=True)
class Adoption:
    """Seeds of one setting that need not run.

    known: the run that has them. work: the setting, and those of its seeds that the study lacks.
    """

    known: RunRecord
    work: Work


def adoptions(study: StudyConfig, plan: Plan, known: Iterable[RunRecord]) -> list[Adoption]:
    """What of a plan's work finished runs of other studies have, each seed of the oldest.

    A setting's key holds all that decides its numbers: data, weights, plugins and the version of
    the results. A run that lacks a number, or what `record` asks for, serves nothing. A setting
    that the scheduler may stop is taken whole or not at all: seeds beside finished ones are never
    stopped.
    """
    runs: dict[str, list[RunRecord]] = {}
    for one in known:
        runs.setdefault(one.setting_key, []).append(one)
    found = []
    for work in plan.work:
        parts, left = list[Adoption](), set(work.seeds)
        for one in runs.get(work.setting.key, ()):
            own = left & set(one.seeds)
            whole = {seed for seed in own if _is_whole(study, work.setting.config, one, seed)}
            seeds = tuple(seed for seed in work.seeds if seed in whole)
            parts += [Adoption(one, replace(work, seeds=seeds))] if seeds else []
            left -= whole
        if not (left and work.may_stop and study_prunes(study)):
            found += parts
    return found


def _is_whole(study: StudyConfig, config: TrialConfig, known: RunRecord, seed: int) -> bool:
    """Return True if a run has finished a seed, and has all that the study would record of it."""
    metrics, objective = known.logged.metrics, config.selection_metric
    needed: list[str] = [Cost.SECONDS, Cost.PEAK_MEMORY, Cost.TEXT_TOKENS]
    needed += [seed_metric(seed, f"selection/{objective}")] if objective else []
    has_curves = any((split_curve(name) or (None,))[0] == seed for name in metrics)
    has_load = any(name.startswith(LOAD) for name in metrics)
    return (
        seed in known.counted_seeds
        and all(math.isfinite(metrics.get(name, math.nan)) for name in needed)
        and (has_curves or not study.record.seed_curves)
        and (has_load or not study.record.system_metrics)
    )


def once_adopted(
    study: StudyConfig,
    ledger: RunHistory,
    found: Sequence[Adoption],
    fingerprints: Fingerprints,
    retry_before: int = 0,
) -> tuple[RunHistory, Plan]:
    """The ledger and the plan as they will be once the study has adopted what was found.

    Of an adopted row only the key, the seeds and the time are what they will be: its assignment and
    its arm are those of the study that ran it.
    """
    rows = list(ledger.runs)
    for one in found:
        row, work = one.known, one.work
        seconds = row.seconds and row.seconds * len(work.seeds) / len(row.seeds)  # of its seeds
        rows.append(replace(row, seeds=work.seeds, seconds=seconds))
    whole = replace(ledger, runs=tuple(rows))
    return whole, make_plan(study, whole, fingerprints, retry_before)


def adoption_lines(found: Sequence[Adoption]) -> list[str]:
    """Return a line for each study that results are reused from, and the option against it."""
    lines = []
    for study in dict.fromkeys(one.known.study for one in found):
        works = [one.work for one in found if one.known.study == study]
        seeds, settings = sum(len(w.seeds) for w in works), len({w.setting.key for w in works})
        many = f"{count(seeds, 'seed')} of {count(settings, 'configuration')}"
        lines.append(f"results of {many} reused from study {study}. Use --no-reuse to rerun them")
    return lines
