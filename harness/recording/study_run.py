"""Write the study's own run in MLflow: its tags, its files and the report.

It is the parent of the trials' runs. Tags and descriptions of trials' runs that depend on the whole
study are also written here.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.config import StudyConfig, format_resolved_yaml, list_levels
from harness.planning import Configuration, Plan
from harness.recording.numbers import format_environment, make_source_tags
from harness.store import (
    HEADLINE,
    LONG_TAGS,
    MAX_BYTES,
    MAX_TAG,
    PROTOCOLS,
    REPORT,
    ConfigurationRecord,
    FactorRecord,
    Kind,
    Publication,
    Run,
    RunHistory,
    RunUpdate,
    State,
    Store,
    Tag,
    escape_text,
    find_study_run,
    make_planned_tags,
    make_points,
    split_tag,
)

YAML_ARTIFACT = "study.yaml"  # as the user wrote it
RESOLVED_ARTIFACT = "study.resolved.yaml"  # with overrides and defaults
ENVIRONMENT_ARTIFACT = "environment.txt"  # all installed packages
_DIFFERENCE = "; difference from the baseline: "  # follows the result in a run's description
MAX_EXPERIMENT_TAG = 5_000  # maximum characters of an experiment's tag in MLflow's databases


@dataclass
class ParentRun:
    """The study's own run in the store: the parent of its trials' runs.

    Every method may raise StoreError.

    Attributes:
        store: Open store.
        experiment_id: MLflow's ID of the study's experiment.
        run_id: MLflow's ID of the run.
        tags: Tags of the run, as far as this process has read or written them.
    """

    store: Store
    experiment_id: str
    run_id: str
    tags: dict[str, str] = field(default_factory=dict)
    # entries of Tag.PLANNED; describe() must set them before add_planned() is called
    _planned_entries: list[str] = field(default_factory=list)
    _planned_keys: set[str] = field(default_factory=set)  # keys of the configurations in them

    @classmethod
    def get_or_create(cls, store: Store, experiment_id: str, study: StudyConfig) -> "ParentRun":
        """Return the study's own run. It is created if it does not exist.

        Creating the run also sets the experiment's primary metric, which MLflow's charts show
        first.

        Args:
            store: Open store.
            experiment_id: MLflow's ID of the study's experiment.
            study: The study. A new run gets its name and description.
        """
        existing_run = find_study_run(store, experiment_id)
        if existing_run is not None:
            return cls(store, experiment_id, existing_run.info.run_id, dict(existing_run.data.tags))
        tags: dict[str, str] = {
            Tag.KIND: Kind.STUDY,
            Tag.STATE: State.RUNNING,
        }
        if study.description:
            tags[Tag.RUN_NOTE] = study.description  # a report replaces it later
        metric = f"test/{PROTOCOLS[study.base.protocol].default}"
        store.set_experiment_tags(
            experiment_id, {Tag.PRIMARY_METRIC: metric, Tag.PRIMARY_IS_GREATER_BETTER: "True"}
        )
        run_id = store.create_run(experiment_id, study.name, tags)
        return cls(store, experiment_id, run_id, tags)

    def describe(self, study: StudyConfig, plan: Plan) -> None:
        """Bring the run's tags up to date with the study, and save its YAML as two files.

        - study.yaml: the YAML as the user wrote it, if the study comes from a file
        - study.resolved.yaml: the YAML with overrides, defaults and every key

        The files are for users: ship-sweep reads the same content from the tags. They are written
        before the tags, one of which is a digest of the files, so up-to-date tags imply up-to-date
        files.

        Args:
            study: The study.
            plan: Plan with all configurations and controls of the study.
        """
        configurations = [*plan.configurations, *plan.duplicate_controls]
        self._planned_entries = list(map(make_planned_entry, configurations))
        self._planned_keys = {configuration.key for configuration in configurations}
        tags = {**make_study_tags(study), **make_planned_tags(self._planned_entries)}
        # empty the continuation tags (NAME.1) that a shorter text no longer needs
        continuation_tags = [name for name in self.tags if name.rpartition(".")[0] in LONG_TAGS]
        source = study.source if study.source and study.source.is_file() else None
        files = {YAML_ARTIFACT: source.read_bytes()} if source else {}
        files[RESOLVED_ARTIFACT] = format_resolved_yaml(study).encode()
        tags[Tag.YAML_DIGEST] = hashlib.sha256(repr(files).encode()).hexdigest()
        self._write_changed({**dict.fromkeys(continuation_tags, ""), **tags}, files=files)

    def begin(self) -> None:
        """Mark the run as RUNNING, and write the current code and package versions."""
        files = {ENVIRONMENT_ARTIFACT: format_environment().encode()}
        update = RunUpdate(
            run_id=self.run_id, files=files, tags=make_source_tags(), state=State.RUNNING
        )
        self.store.write(update)
        self.tags[Tag.STATE] = State.RUNNING

    def add_planned(self, configuration: Configuration) -> None:
        """Add a configuration that the sampler proposed to the list of planned configurations.

        Only tags that change are written, in one request. A driver that is killed therefore leaves
        the list with or without the configuration, never with a part of it.
        """
        if configuration.key not in self._planned_keys:
            self._planned_keys.add(configuration.key)
            self._planned_entries.append(make_planned_entry(configuration))
            self._write_changed(make_planned_tags(self._planned_entries))

    def end(self, state: State) -> None:
        """Set the final state of the run, unless the store has that state already."""
        if self.tags.get(Tag.STATE) != state:
            self.store.write(RunUpdate(run_id=self.run_id, state=state))
            self.tags[Tag.STATE] = state

    def update_trial_tags(self, history: RunHistory, plan: Plan) -> bool:
        """Rewrite the tags of trials' runs that no longer match the current study.

        A run that was a control may now be a configuration of the study's space. If a factor was
        added to the study, its baseline is added to the assignments of older runs.

        Args:
            history: Run history of the study.
            plan: Plan with the study's current configurations.

        Returns:
            True if any run was changed.
        """
        tags_by_key = {
            configuration.key: make_configuration_tags(configuration)
            for configuration in plan.configurations
        }
        has_changed = False
        for run in history.runs:
            changes = _find_changes(tags_by_key.get(run.config_key, {}), run.logged.tags)
            if changes:
                self.store.write(RunUpdate(run_id=run.logged.run_id, tags=changes))
                has_changed = True
        return has_changed

    def _write_changed(self, tags: Mapping[str, str], **fields: Any) -> None:
        """Write the tags that differ from those in the store. If all are equal, write nothing.

        Args:
            tags: Tags of the run.
            fields: Further fields of the RunUpdate, written only if a tag changes.
        """
        changes = _find_changes(tags, self.tags)
        if changes:
            self.store.write(RunUpdate(run_id=self.run_id, tags=changes, **fields))
            self.tags |= changes


def _find_changes(tags: Mapping[str, str], stored_tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that the store lacks, or has with another text."""
    return {name: text for name, text in tags.items() if stored_tags.get(name) != text}


def make_study_tags(study: StudyConfig) -> dict[str, str]:
    """Return the tags of the study's own run that are computed from its YAML."""
    factors = [
        asdict(FactorRecord(key, list_levels(study, key), factor.log, factor.baseline))
        for key, factor in study.space.items()
    ]
    content = study.model_dump(mode="json", exclude={"source", "backbone_defaults"})
    return {
        Tag.OBJECTIVE: study.objective,
        Tag.SAMPLER: study.sampler,
        Tag.SELECTION: study.base.selection,
        **split_tag(Tag.FACTORS, json.dumps(factors)),
        **split_tag(Tag.STUDY, json.dumps(content)),
    }


def make_planned_entry(configuration: Configuration) -> str:
    """Return a configuration's entry in the JSON list of planned configurations."""
    return ConfigurationRecord(
        configuration.key, dict(configuration.assignment), configuration.control
    ).to_json()


def make_configuration_tags(configuration: Configuration) -> dict[str, str]:
    """Return the tags that identify a run's configuration in the current study.

    If the YAML changes, CONTROL and ASSIGNMENT of a run may change (see
    `ParentRun.update_trial_tags`). CONFIG_KEY never changes.
    """
    return {
        Tag.CONFIG_KEY: configuration.key,
        Tag.CONTROL: configuration.control,
        Tag.ASSIGNMENT: json.dumps(dict(configuration.assignment)),
    }


def publish_report(store: Store, run_id: str, publication: Publication) -> bool:
    """Write a report to the study's own run in MLflow, unless the run has it already.

    Files larger than MAX_BYTES are left out, and the run's description says so. The report's digest
    is written last. If the driver is killed before that, the next run of the study writes
    everything again, which is harmless.

    Args:
        store: Open store.
        run_id: MLflow's ID of the run.
        publication: Report to write.

    Returns:
        True if anything was written.

    Raises:
        StoreError: The store cannot be read, or refuses a write.
    """
    run = store.read(lambda client: client.get_run(run_id))
    # hash the stamp in place of the files, because rendering the files takes seconds
    digest_content = [
        dict(publication.metrics),
        dict(publication.params),
        publication.best,
        publication.note,
        publication.stamp,
    ]
    digest = hashlib.sha256(json.dumps(digest_content, sort_keys=True).encode()).hexdigest()
    if run.data.tags.get(Tag.PUBLISHED) == digest:
        return False
    stored_params = run.data.params
    new_params = {
        name: text for name, text in publication.params.items() if name not in stored_params
    }
    # MLflow cannot delete a metric, so outdated headline metrics become NaN.
    old_metrics = {
        name: math.nan
        for name, value in run.data.metrics.items()
        if name.startswith(HEADLINE) and not math.isnan(value)
    }
    files = publication.files()
    too_large = [name for name, content in files.items() if len(content) > MAX_BYTES]
    changes = RunUpdate(
        run_id=run_id,
        metrics=make_points({**old_metrics, **publication.metrics}),
        params=new_params,
        tags={
            Tag.RUN_NOTE: _format_note(publication, stored_params, too_large),
            Tag.BEST: publication.best,
            Tag.PUBLISHED: digest,
        },
    )
    answer = _truncate(escape_text(publication.answer), MAX_EXPERIMENT_TAG)
    store.set_experiment_tags(run.info.experiment_id, {Tag.RUN_NOTE: answer})
    for name, content in files.items():
        if name not in too_large:
            store.write(RunUpdate(run_id=run_id, files={f"{REPORT}/{name}": content}))
    store.write(changes)
    return True


def write_differences(store: Store, runs: Iterable[Run], differences: Mapping[str, str]) -> None:
    """Write the difference from the baseline into the descriptions of trials' runs.

    Args:
        store: Open store.
        runs: Runs of the study as they were last read.
        differences: Run ID -> difference as text. If a run has no entry, the difference of an older
            report is removed from its description.

    Raises:
        StoreError: The store refuses a write.
    """
    for run in runs:
        stored_note = run.tags.get(Tag.RUN_NOTE, "")
        note = stored_note.partition(_DIFFERENCE)[0]
        if run.run_id in differences:
            note += f"{_DIFFERENCE}{differences[run.run_id]}"
        if note != stored_note:
            store.write(RunUpdate(run_id=run.run_id, tags={Tag.RUN_NOTE: note}))


def _format_note(
    publication: Publication, stored_params: Mapping[str, str], too_large: Sequence[str]
) -> str:
    """Return the description of the study's own run: the report's note, and where the report is.

    If params have changed, the text begins with their current values, because MLflow keeps the
    first value of a param. The note is truncated so that the text fits into a tag.

    Args:
        publication: Report to write.
        stored_params: Params of the run in the store.
        too_large: Names of the files that are left out.
    """
    changed_values = [
        f"`{name}` = {publication.params[name]}"
        if name in publication.params
        else f"`{name}` is no longer a constant"
        for name, text in sorted(stored_params.items())
        if publication.params.get(name) != text
    ]
    head = ""
    if changed_values:
        values = "; ".join(changed_values)
        head = f"MLflow keeps the first value of a parameter. Current values: {values}.\n\n"
    tail = f"\nFull report: Artifacts, `{REPORT}/{publication.page}`."
    if too_large:
        tail += f" Too large to be stored: {', '.join(too_large)}."
    return _truncate(head + publication.note, MAX_TAG - len(tail)) + tail


def _truncate(text: str, limit: int) -> str:
    """Truncate a text to at most `limit` characters.

    The result ends with a whole line, unless that would halve it because the next line is long.
    """
    if len(text) <= limit:
        return text
    end = text.rfind("\n", 0, limit) + 1
    return text[: end if end > limit // 2 else limit]
