"""Find the finished rows that leave a study's report because its YAML, data or weights changed.

A row is the result of one configuration with one seed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from harness.config import StudyConfig, make_baseline, make_control, resolve, resolve_controls
from harness.errors import UserError
from harness.planning.configurations import ConfigurationMaker, format_plugins
from harness.planning.plan import Plan
from harness.store import (
    COMPETING,
    RunHistory,
    RunRecord,
    State,
    StudyRecord,
    Tag,
    format_param,
    list_params,
)
from harness.wording import count, format_duration
from ship.trial_config import RESULTS_VERSION, TrialConfig

ADVICE = (
    "Use accept_changes (--accept-changes) to rerun their configurations, or name=ANOTHER to start "
    "another study. If the old values are restored, the rows return to the table"
)
MAX_DIFFERENCES = 12  # differences that a message lists

# (key of a configuration, seed) -> seconds that its training took
SecondsByRow = dict[tuple[str, int], float]


@dataclass
class StaleRows:
    """Finished rows that leave the report's table because the study changed.

    Attributes:
        changed: Rows whose levels are still requested, but with other constants, data, weights or
            plugins, or with another results version.
        removed: Rows of levels, controls or seeds that the YAML no longer requests.
        differences: Lines that say what differs for `changed`, as the keys of an ordered set.
    """

    changed: SecondsByRow = field(default_factory=dict)
    removed: SecondsByRow = field(default_factory=dict)
    differences: dict[str, None] = field(default_factory=dict)

    def text(self, source: str) -> str:
        """Return the message about changed rows: what changed, how many rows leave, what to do.

        "" if there are no changed rows.

        Args:
            source: Name of the study's YAML in messages.
        """
        if not self.changed:
            return ""
        differences = [*self.differences]
        if len(differences) > MAX_DIFFERENCES:
            n_hidden = len(differences) - MAX_DIFFERENCES
            differences[MAX_DIFFERENCES:] = [f"and {n_hidden} more"]
        lines = "\n  ".join([f"{source}: the study has changed:", *differences])
        effect = f"{_format_rows(self.changed)} would leave the table, and stay in MLflow"
        return f"{lines}\n{effect}\n{ADVICE}"

    def notes(self, source: str) -> list[str]:
        """Return the notes of a dry run about changed and removed rows. [] without such rows.

        Args:
            source: Name of the study's YAML in messages.
        """
        effect = "leave the table: the YAML no longer requests them"
        removed_note = f"{_format_rows(self.removed)} {effect}" if self.removed else ""
        return [note for note in (self.text(source), removed_note) if note]


def _format_rows(rows: SecondsByRow) -> str:
    """Return text such as "6 finished rows of 3 configurations (3.4 min of computing)"."""
    configurations = count(len({config_key for config_key, _ in rows}), "configuration")
    time = format_duration(sum(rows.values()))
    return f"{count(len(rows), 'finished row')} of {configurations} ({time} of computing)"


class StudyChanged(UserError):
    """Finished rows would leave the table of a study that has changed."""


def refuse_changes(changes: StaleRows, source: str) -> None:
    """Raise an error if there are changed rows. Removed rows are no error.

    Args:
        changes: Rows that would leave the table, and why.
        source: Name of the study's YAML in messages.

    Raises:
        StudyChanged: There are changed rows.
    """
    if text := changes.text(source):
        raise StudyChanged(text)


def find_stale_rows(
    maker: ConfigurationMaker, plan: Plan, history: RunHistory, record: StudyRecord
) -> StaleRows:
    """Find the finished rows of the stored table that the current study no longer requests.

    To tell `changed` from `removed` rows, the levels of a row are resolved with the current study.
    The row is `changed` if this results in another key, because a constant changed for example. It
    is `removed` if the key is the same, so that only its level, control or seed is no longer
    requested, or if the study no longer has its control.

    Args:
        maker: Maker of the current study's configurations.
        plan: Plan of the current study.
        history: Run history of the study.
        record: The study as it was last run. Rows that were not in its table are ignored.
    """
    changes, study = StaleRows(), maker.study
    planned_keys = {
        configuration.key for configuration in (*plan.configurations, *plan.duplicate_controls)
    }
    baseline_controls, constants = resolve_controls(study), list_params(study.base)
    old_levels = {
        factor.key: [*map(format_param, factor.levels or ())] for factor in record.factors
    }
    # Factors that became a constant with a value that was not among their levels. Their constant
    # counts as changed. If the value was among them, the other levels count as removed.
    replaced_factors = {
        key
        for key in old_levels
        if key not in study.space and constants.get(key) not in old_levels[key]
    }
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
        differences: list[str] = []
        if key not in planned_keys:
            config = _resolve_run(study, run, replaced_factors, baseline_controls)
            if config is not None and maker.key(config) != key:
                differences = _list_differences(maker, run, config)
        changes.differences |= dict.fromkeys(differences)
        rows = changes.changed if differences else changes.removed
        rows |= {
            (key, seed): (run.seconds or 0.0) / len(run.seeds) for seed, run in leaving.items()
        }
    return changes


def _resolve_run(
    study: StudyConfig,
    run: RunRecord,
    replaced_factors: Collection[str],
    baseline_controls: Mapping[str, TrialConfig],
) -> TrialConfig | None:
    """Return the trial that a run's levels result in with the current study.

    Args:
        study: The current study. Its factors that the run lacks are at their baselines.
        run: The run.
        replaced_factors: Factors of the run whose levels are ignored in favor of the constants.
        baseline_controls: The current study's controls at the baseline, by name.

    Returns:
        The trial. None if the study no longer has the run's control. The study's constants if they
        are not valid together with the run's levels.
    """
    if run.control and not run.assignment:
        return baseline_controls.get(run.control)
    levels = {key: level for key, level in run.assignment.items() if key not in replaced_factors}
    try:
        if not run.control:
            return resolve(study, levels | make_baseline(study, levels))
        if baseline_controls and run.control in COMPETING:
            return make_control(study, run.control, levels)
    except ValueError:
        return study.base
    return None


def _list_differences(maker: ConfigurationMaker, run: RunRecord, config: TrialConfig) -> list[str]:
    """Return lines that say how a run differs from the current study. At least one line.

    Args:
        maker: Maker of the current study's configurations.
        run: The run.
        config: The trial that the run's levels result in with the current study.
    """
    before, after, lines = run.logged.params, list_params(config), list[str]()
    for name in dict.fromkeys([*after, *before]):
        group, dot, leaf = name.partition(".")
        # if another method replaced a method, the options of both are irrelevant
        if before.get(name) == after.get(name) or leaf == "name":
            continue
        if not dot or before.get(group) == after.get(group):
            path = f"space.{name}.baseline" if run.control and name in maker.study.space else name
            lines.append(f"{path}: {before.get(name, 'not set')} -> {after.get(name, 'not set')}")
    fingerprints, tags = maker.fingerprints, {Tag.PLUGINS: "", **run.logged.tags}
    labeled_tags = (  # label, tag, current value
        ("results version of the method", Tag.RESULTS_VERSION, str(RESULTS_VERSION)),
        ("backbone", Tag.BACKBONE_FINGERPRINT, fingerprints.backbone_fingerprint(config.backbone)),
        ("dataset", Tag.DATASET_FINGERPRINT, fingerprints.dataset_fingerprint(config.dataset)),
        ("plugins", Tag.PLUGINS, format_plugins(config)),
    )
    for label, tag, current in labeled_tags:
        previous = tags.get(tag, current)
        if previous != current and before.get(label) == after.get(label):
            line = f"{label}: {previous or 'none'} -> {current or 'none'}"
            if label in after:
                line = f"{label} {after[label]}: its content has changed"
            lines.append(line)
    return lines or ["something that the store does not record, such as a target's images"]
