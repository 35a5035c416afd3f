"""Find the finished rows that leave a study's report because its YAML, data or weights changed.

A row is the result of one configuration for one seed.
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
MAX_DIFFERENCES = 12  # differences listed in a message

# (configuration key, seed) -> seconds of training
SecondsByRow = dict[tuple[str, int], float]


@dataclass
class StaleRows:
    """Finished rows that leave the report's table because the study changed.

    Attributes:
        changed: Rows whose levels are still requested, but with other constants, data, weights or
            plugins, or with another results version.
        removed: Rows of levels, controls or seeds that the YAML no longer requests.
        differences: Lines that describe what has changed. Only the keys of the dict are used, as an
            ordered set.
    """

    changed: SecondsByRow = field(default_factory=dict)
    removed: SecondsByRow = field(default_factory=dict)
    differences: dict[str, None] = field(default_factory=dict)

    def text(self, source: str) -> str:
        """Return the message about changed rows: what changed, how many rows leave, what to do.

        Args:
            source: Name of the study's YAML in messages.

        Returns:
            The message. "" if there are no changed rows.
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

    If a row's configuration is no longer requested, its levels are resolved with the current study,
    and the resulting configuration key is compared with the row's:

    - Another key: the row is `changed`, e.g. because of a constant.
    - The same key: the row is `removed`, because its level or control is no longer requested.
    - No key, because the study no longer has the row's control: the row is `removed`.

    If only the row's seed is no longer requested, the row is `removed`.

    Args:
        maker: Maker of the current study's configurations.
        plan: Plan of the current study.
        history: Run history of the study.
        record: The study as it was last run. Rows that its table did not contain are ignored.
    """
    changes, study = StaleRows(), maker.study
    planned_keys = {
        configuration.key for configuration in (*plan.configurations, *plan.duplicate_controls)
    }
    baseline_controls, constants = resolve_controls(study), list_params(study.base)
    old_levels = {
        factor.key: [*map(format_param, factor.levels or ())] for factor in record.factors
    }
    # Keys that were factors and are constants now. If the constant is not one of the old levels, it
    # counts as changed. Otherwise the rows with the other levels count as removed.
    replaced_factors = {
        key
        for key in old_levels
        if key not in study.space and constants.get(key) not in old_levels[key]
    }
    stored_keys = {configuration.key for configuration in record.configurations}
    for key, runs in history.by_key.items():
        stored_seeds = record.seeds if key in stored_keys else ()
        planned_seeds = study.seeds if key in planned_keys else ()
        leaving_runs = {
            seed: run
            for seed, run in runs.items()
            if run.state is State.COMPLETE and seed in stored_seeds and seed not in planned_seeds
        }
        if not leaving_runs:
            continue
        run = next(iter(leaving_runs.values()))
        differences: list[str] = []
        if key not in planned_keys:
            config = _resolve_run(study, run, replaced_factors, baseline_controls)
            if config is not None and maker.key(config) != key:
                differences = _list_differences(maker, run, config)
        changes.differences |= dict.fromkeys(differences)
        rows = changes.changed if differences else changes.removed
        rows |= {
            (key, seed): (run.seconds or 0.0) / len(run.seeds) for seed, run in leaving_runs.items()
        }
    return changes


def _resolve_run(
    study: StudyConfig,
    run: RunRecord,
    replaced_factors: Collection[str],
    baseline_controls: Mapping[str, TrialConfig],
) -> TrialConfig | None:
    """Resolve a run's levels with the current study.

    Args:
        study: The current study. Its factors that the run lacks are set to their baselines.
        run: The run.
        replaced_factors: Factors of the run for which the study's constants are used instead.
        baseline_controls: The current study's controls at the baseline, by name.

    Returns:
        The resolved trial. `study.base` if the run's levels are no longer valid. None if the study
        no longer has the run's control.
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
    """Return at least one line that describes how a run differs from the current study.

    Args:
        maker: Maker of the current study's configurations.
        run: The run.
        config: The run's levels resolved with the current study, see `_resolve_run`.
    """
    logged, current, lines = run.logged.params, list_params(config), list[str]()
    for name in dict.fromkeys([*current, *logged]):
        group, dot, leaf = name.partition(".")
        # a method's name is also the value of its group, e.g. of "generator"
        if logged.get(name) == current.get(name) or leaf == "name":
            continue
        # options of methods are only compared if the method is the same
        if not dot or logged.get(group) == current.get(group):
            path = f"space.{name}.baseline" if run.control and name in maker.study.space else name
            values = f"{logged.get(name, 'not set')} -> {current.get(name, 'not set')}"
            lines.append(f"{path}: {values}")
    fingerprints, tags = maker.fingerprints, {Tag.PLUGINS: "", **run.logged.tags}
    labeled_tags = (  # (label, tag, current value of the tag)
        ("results version of the method", Tag.RESULTS_VERSION, str(RESULTS_VERSION)),
        ("backbone", Tag.BACKBONE_FINGERPRINT, fingerprints.backbone_fingerprint(config.backbone)),
        ("dataset", Tag.DATASET_FINGERPRINT, fingerprints.dataset_fingerprint(config.dataset)),
        ("plugins", Tag.PLUGINS, format_plugins(config)),
    )
    for label, tag, value in labeled_tags:
        old_value = tags.get(tag, value)
        # another backbone or dataset already has a line, as a changed constant
        if old_value != value and logged.get(label) == current.get(label):
            line = f"{label}: {old_value or 'none'} -> {value or 'none'}"
            if label in current:
                line = f"{label} {current[label]}: its content has changed"
            lines.append(line)
    return lines or ["something that the store does not record, such as a target's images"]
