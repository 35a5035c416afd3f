"""Find finished rows that leave the report of an edited study, and results to reuse from others."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from harness.config import StudyConfig, make_baseline, make_control, resolve, resolve_controls
from harness.errors import UserError
from harness.planning.configurations import ConfigurationMaker, format_plugins
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan, Work, make_plan, study_prunes
from harness.store import (
    COMPETING,
    LOAD,
    Cost,
    RunHistory,
    RunRecord,
    State,
    StudyRecord,
    Tag,
    format_param,
    list_params,
    seed_metric,
    split_curve,
)
from harness.wording import count, format_duration
from ship.trial_config import RESULTS_VERSION, TrialConfig

WAYS_OUT = (
    "Use accept_changes (--accept-changes) to rerun their configurations, or name=ANOTHER to start "
    "another study. If the old values are restored, the rows return to the table"
)
MAX_SHOWN = 12

# (key of a configuration, seed) -> seconds of the finished row
Rows = dict[tuple[str, int], float]


@dataclass
class StaleRows:
    """Finished rows that leave the report's table because the study was edited.

    Attributes:
        changed: Rows whose configuration is still requested, but with other constants, data,
            weights or another results version.
        removed: Rows of levels, controls or seeds that the YAML no longer requests.
        differences: Lines that say what differs for `changed`. An ordered set.
    """

    changed: Rows = field(default_factory=dict)
    removed: Rows = field(default_factory=dict)
    differences: dict[str, None] = field(default_factory=dict)

    def text(self, source: str) -> str:
        """Return the message about changed rows, or "" if there are none.

        It says what changed, which rows leave the table, and what to do.

        Args:
            source: Name of the study's YAML in messages.
        """
        if not self.changed:
            return ""
        lines_shown = [*self.differences]
        if len(lines_shown) > MAX_SHOWN:
            lines_shown[MAX_SHOWN:] = [f"and {len(lines_shown) - MAX_SHOWN} more"]
        lines = "\n  ".join([f"{source}: the study has changed:", *lines_shown])
        effect = f"{_rows_text(self.changed)} would leave the table, and stay in MLflow"
        return f"{lines}\n{effect}\n{WAYS_OUT}"

    def notes(self, source: str) -> list[str]:
        """Return the notes of a dry run about changed and removed rows. [] if there are none.

        Args:
            source: Name of the study's YAML in messages.
        """
        effect = "leave the table: the YAML no longer requests them"
        removed_note = f"{_rows_text(self.removed)} {effect}" if self.removed else ""
        return [note for note in (self.text(source), removed_note) if note]


def _rows_text(rows: Rows) -> str:
    """Return text such as "6 finished rows of 3 configurations (3.4 min of computing)"."""
    configurations = count(len({key for key, _ in rows}), "configuration")
    time = format_duration(sum(rows.values()))
    return f"{count(len(rows), 'finished row')} of {configurations} ({time} of computing)"


class StudyChanged(UserError):
    """Finished rows would leave the table of a study that has changed."""


def refuse_changes(changes: StaleRows, source: str) -> None:
    """Raise an error if finished rows would leave the table because the study changed.

    Args:
        changes: Rows that would leave the table, and why.
        source: Name of the study's YAML in messages.

    Raises:
        StudyChanged: Finished rows would leave the table.
    """
    if text := changes.text(source):
        raise StudyChanged(text)


def find_stale_rows(
    maker: ConfigurationMaker, plan: Plan, history: RunHistory, record: StudyRecord
) -> StaleRows:
    """Find the finished rows of the stored table that the present study no longer requests.

    A row is `removed` if the YAML no longer asks for its level. It is `changed` if the YAML still
    does, but the key of the configuration differs, because a constant has changed for example.

    Args:
        maker: Maker of the present study's configurations.
        plan: Plan of the present study.
        history: Run history of the study.
        record: The study as it was last run. Rows that were not in its table are ignored.
    """
    changes, study = StaleRows(), maker.study
    planned_keys = {
        configuration.key for configuration in (*plan.configurations, *plan.duplicate_controls)
    }
    controls, constants = resolve_controls(study), list_params(study.base)
    old_levels = {
        factor.key: [*map(format_param, factor.levels or ())] for factor in record.factors
    }
    # factors that became a constant whose value was not one of their levels
    removed_factors = {
        key
        for key in old_levels
        if key not in study.space and constants.get(key) not in old_levels[key]
    }

    def present_config(run: RunRecord) -> TrialConfig | None:
        """Return the present study's config for a run's assignment.

        A factor that the run lacks is at its baseline. A factor that became a constant keeps the
        run's level if the constant is one of its former levels: the other levels were removed.
        Otherwise it has the constant's value, which has changed.

        Returns None if the study no longer has the run's control.
        """
        if run.control and not run.assignment:
            return controls.get(run.control)
        assignment = {
            key: value for key, value in run.assignment.items() if key not in removed_factors
        }
        try:
            if run.control:
                is_wanted = controls and run.control in COMPETING
                return make_control(study, run.control, assignment) if is_wanted else None
            return resolve(study, assignment | make_baseline(study, assignment))
        except ValueError:  # the level is not valid with the study's constants
            return study.base

    stored_keys = {configuration.key for configuration in record.configurations}
    for key, runs in history.by_key.items():
        stored_seeds = record.seeds if key in stored_keys else ()
        planned_seeds = study.seeds if key in planned_keys else ()
        leaving = {
            seed: run
            for seed, run in runs.items()
            if run.state is State.COMPLETE and seed in stored_seeds and seed not in planned_seeds
        }
        if not leaving:
            continue
        run = next(iter(leaving.values()))
        trial = None if key in planned_keys else present_config(run)
        reasons = _reasons(maker, run, trial) if trial and maker.key(trial) != key else []
        changes.differences |= dict.fromkeys(reasons)
        rows = changes.changed if reasons else changes.removed
        rows |= {
            (key, seed): (run.seconds or 0.0) / len(run.seeds) for seed, run in leaving.items()
        }
    return changes


def _reasons(maker: ConfigurationMaker, run: RunRecord, config: TrialConfig) -> list[str]:
    """Return lines that say how a run's trial differs from the present config."""
    before, after, lines = run.logged.params, list_params(config), list[str]()
    for name in dict.fromkeys([*after, *before]):
        group, dot, leaf = name.partition(".")
        # options of a method are irrelevant once another method replaces it
        if before.get(name) == after.get(name) or leaf == "name":
            continue
        if not dot or before.get(group) == after.get(group):
            path = f"space.{name}.baseline" if run.control and name in maker.study.space else name
            lines.append(f"{path}: {before.get(name, 'not set')} -> {after.get(name, 'not set')}")
    fingerprints, tags = maker.fingerprints, {Tag.PLUGINS: "", **run.logged.tags}
    tags_to_compare = (
        ("results version of the method", Tag.RESULTS_VERSION, str(RESULTS_VERSION)),
        ("backbone", Tag.BACKBONE_FINGERPRINT, fingerprints.backbone_fingerprint(config.backbone)),
        ("dataset", Tag.DATASET_FINGERPRINT, fingerprints.dataset_fingerprint(config.dataset)),
        ("plugins", Tag.PLUGINS, format_plugins(config)),
    )
    for label, tag, value_now in tags_to_compare:
        previous = tags.get(tag, value_now)
        if previous != value_now and before.get(label) == after.get(label):
            line = f"{label}: {previous or 'none'} -> {value_now or 'none'}"
            if label in after:
                line = f"{label} {after[label]}: its content has changed"
            lines.append(line)
    return lines or ["something that the store does not record, such as a target's images"]


@dataclass(frozen=True)
class ReusedRun:
    """Results of another study that are reused.

    Attributes:
        run: Run that has the results.
        work: Configuration and seeds that need not run.
    """

    run: RunRecord
    work: Work


def find_reusable_runs(
    study: StudyConfig, plan: Plan, runs: Iterable[RunRecord]
) -> list[ReusedRun]:
    """Find results of other studies that a plan can reuse. The oldest run of each seed is used.

    Equal keys mean equal results, because a key covers data, weights, plugins and the results
    version. Runs that lack a required metric, or metrics that `log` requests, are not used. If the
    scheduler may stop a configuration, either all of its missing seeds are reused or none: seeds
    that are added to finished ones are never stopped.

    Args:
        study: The study.
        plan: Plan of the study.
        runs: Finished runs of other studies, oldest first.
    """
    runs_by_key: dict[str, list[RunRecord]] = {}
    for run in runs:
        runs_by_key.setdefault(run.config_key, []).append(run)
    reused_runs = []
    for work in plan.work:
        parts, missing = list[ReusedRun](), set(work.seeds)
        for run in runs_by_key.get(work.configuration.key, ()):
            candidates = missing & set(run.seeds)
            config = work.configuration.trial
            reusable_seeds = {seed for seed in candidates if _is_reusable(study, config, run, seed)}
            seeds = tuple(seed for seed in work.seeds if seed in reusable_seeds)
            if seeds:
                parts.append(ReusedRun(run, replace(work, seeds=seeds)))
            missing -= reusable_seeds
        if not (missing and work.may_stop and study_prunes(study)):
            reused_runs += parts
    return reused_runs


def _is_reusable(study: StudyConfig, config: TrialConfig, run: RunRecord, seed: int) -> bool:
    """Return True if a run has finished a seed and has everything that the study would log."""
    metrics, objective = run.logged.metrics, config.selection_metric
    names: list[str] = [Cost.SECONDS, Cost.PEAK_MEMORY, Cost.TEXT_TOKENS]
    names += [seed_metric(seed, f"selection/{objective}")] if objective else []
    has_curves = any((split_curve(name) or (None,))[0] == seed for name in metrics)
    has_load = any(name.startswith(LOAD) for name in metrics)
    return (
        seed in run.counted_seeds
        and all(math.isfinite(metrics.get(name, math.nan)) for name in names)
        and (has_curves or not study.log.seed_curves)
        and (has_load or not study.log.system_metrics)
    )


def plan_after_reuse(
    study: StudyConfig,
    history: RunHistory,
    reused_runs: Sequence[ReusedRun],
    fingerprints: Fingerprints,
    retry_before: int = 0,
) -> tuple[RunHistory, Plan]:
    """Return the run history and the plan as they will be once results have been reused.

    Reused rows have their final key, seeds and seconds, but still the assignment and the control of
    the study that ran them.

    Args:
        study: The study.
        history: Run history of the study.
        reused_runs: Results to reuse.
        fingerprints: Fingerprints of the study's data and weights.
        retry_before: See `make_plan`.
    """
    rows = list(history.runs)
    for reused in reused_runs:
        row, work = reused.run, reused.work
        seconds = row.seconds and row.seconds * len(work.seeds) / len(row.seeds)
        rows.append(replace(row, seeds=work.seeds, seconds=seconds))
    extended = replace(history, runs=tuple(rows))
    return extended, make_plan(study, extended, fingerprints, retry_before)


def format_reuse(reused_runs: Sequence[ReusedRun]) -> list[str]:
    """Return a line for each study from which results are reused, with the option to prevent it."""
    lines = []
    for study in dict.fromkeys(reused.run.study for reused in reused_runs):
        works = [reused.work for reused in reused_runs if reused.run.study == study]
        seeds = sum(len(work.seeds) for work in works)
        configurations = len({work.configuration.key for work in works})
        amount = f"{count(seeds, 'seed')} of {count(configurations, 'configuration')}"
        lines.append(f"results of {amount} reused from study {study}. Use --no-reuse to rerun them")
    return lines
