"""The study's own run in the store, the parent of its trials' runs, and its report there."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.config import StudyConfig, levels, resolved_yaml
from harness.planning import Plan, Setting
from harness.recording.numbers import source_tags
from harness.store import (
    HEADLINE,
    LONG_TAGS,
    MAX_TAG,
    MOST_BYTES,
    REPORT,
    Changes,
    Configuration,
    Factor,
    Kind,
    Publication,
    RunHistory,
    State,
    Store,
    Tag,
    find_study_run,
    plain,
    planned_tags,
    points,
    split_tag,
)

YAML_ARTIFACT = "study.yaml"  # as the user wrote it
RESOLVED_ARTIFACT = "study.resolved.yaml"  # with every --set and default
MAX_EXPERIMENT_TAG = 5_000  # characters, of MLflow's databases


@dataclass
class StudyRun:
    """The study's own run in the store, which exists. Every method may raise StoreError.

    experiment_id: of the study. run_id: of that run. tags: that the run has.
    """

    store: Store
    experiment_id: str
    run_id: str
    tags: dict[str, str] = field(default_factory=dict)
    _wanted: list[str] = field(default_factory=list)  # entries of Tag.WANTED; describe() sets it
    _wanted_keys: set[str] = field(default_factory=set)  # of the settings in them

    @classmethod
    def create(cls, store: Store, experiment_id: str, study: StudyConfig) -> "StudyRun":
        """The study's run; it is made if there is none yet.

        Args:
            store: an open store.
            experiment_id: the study's experiment.
            study: the study; its name becomes that of a new run.
        """
        known = find_study_run(store, experiment_id)
        if known is not None:
            return cls(store, experiment_id, known.info.run_id, dict(known.data.tags))
        tags: dict[str, str] = {
            Tag.KIND: Kind.STUDY,
            Tag.STATE: State.RUNNING,
        }
        if study.description:
            tags[Tag.RUN_NOTE] = study.description  # until a report takes its place
        run_id = store.create_run(experiment_id, study.name, tags)
        return cls(store, experiment_id, run_id, tags)

    def describe(self, study: StudyConfig, plan: Plan) -> None:
        """Write what the study is now into the run's tags, where they say something else.

        The YAML goes first, as the user wrote it and with every key: tags that say what they should
        are taken for a sign that it is there. Nothing depends on it, as the tags hold what it says.

        Args:
            study: the study as configured.
            plan: whose settings are wanted, and its arms that equal another setting.
        """
        wanted = [*plan.settings, *plan.equal_arms]
        self._wanted = [wanted_text(setting) for setting in wanted]
        self._wanted_keys = {setting.key for setting in wanted}
        tags = {**study_tags(study), **self._wanted_tags()}
        # a text that has become shorter leaves tags behind that it does not go on in any more
        longer = [name for name in self.tags if name.rpartition(".")[0] in LONG_TAGS]
        source = study.source if study.source and study.source.is_file() else None
        files = {YAML_ARTIFACT: source.read_bytes()} if source else {}
        files[RESOLVED_ARTIFACT] = resolved_yaml(study).encode()
        self._put({**dict.fromkeys(longer, ""), **tags}, files=files)

    def begin(self) -> None:
        """Note that the study is being worked on, and with which code and packages."""
        self.store.write(Changes(run=self.run_id, tags=source_tags(), state=State.RUNNING))
        self.tags[Tag.STATE] = State.RUNNING

    def want(self, setting: Setting) -> None:
        """Add a setting that the sampler proposed to the list of wanted settings.

        Only the tags that the end of the list is in are written again. If there are several, one
        request has them all, so that a driver that is killed leaves the list with the setting or
        without it, never half of it.
        """
        if setting.key not in self._wanted_keys:
            self._wanted_keys.add(setting.key)
            self._wanted.append(wanted_text(setting))
            self._put(self._wanted_tags())

    def end(self, state: State) -> None:
        """Note how the study ended, unless the store says so, as where nothing had to run."""
        if self.tags.get(Tag.STATE) != state:
            self.store.write(Changes(run=self.run_id, state=state))
            self.tags[Tag.STATE] = state

    def place_runs(self, ledger: RunHistory, plan: Plan) -> bool:
        """Bring the arm and assignment tags of old runs in line with the study as it is now.

        A run made for a reference arm may now be that of one of the study's settings. And a new
        factor's baseline belongs in the assignment of every run that is older than the factor.

        Args:
            ledger: holds the trials' runs.
            plan: holds the study's settings as they are now.

        Returns:
            True if any run was changed.
        """
        wanted = {setting.key: setting_tags(setting) for setting in plan.settings}
        has_changed = False
        for run in ledger.runs:
            changed = _changed(wanted.get(run.setting_key, {}), run.logged.tags)
            if changed:
                self.store.write(Changes(run=run.logged.run_id, tags=changed))
                has_changed = True
        return has_changed

    def _wanted_tags(self) -> dict[str, str]:
        return planned_tags(self._wanted)

    def _put(self, tags: Mapping[str, str], **others: Any) -> None:
        """Write those tags that differ from the run's and, if there are any, other changes, too."""
        changed = _changed(tags, self.tags)
        if changed:
            self.store.write(Changes(run=self.run_id, tags=changed, **others))
            self.tags |= changed


def _changed(wanted: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """The tags that the store has otherwise, or lacks."""
    return {name: text for name, text in wanted.items() if stored.get(name) != text}


def study_tags(study: StudyConfig) -> dict[str, str]:
    """The tags of the study's own run that follow from its YAML."""
    factors = [
        asdict(Factor(key, levels(study, key), factor.log, factor.baseline))
        for key, factor in study.space.items()
    ]
    whole = study.model_dump(mode="json", exclude={"source", "backbone_defaults"})
    return {
        Tag.OBJECTIVE: study.objective,
        Tag.SAMPLER: study.sampler,
        Tag.SELECTION: study.trial.selection,
        **split_tag(Tag.FACTORS, json.dumps(factors)),
        **split_tag(Tag.STUDY, json.dumps(whole)),
    }


def wanted_text(setting: Setting) -> str:
    """Return a configuration's entry in the JSON list of those that the study plans."""
    return Configuration(setting.key, dict(setting.assignment), setting.arm).to_json()


def setting_tags(setting: Setting) -> dict[str, str]:
    """The tags that say which setting a run is of; they are updated when the YAML changes."""
    return {
        Tag.SETTING_KEY: setting.key,
        Tag.ARM: setting.arm,
        Tag.ASSIGNMENT: json.dumps(dict(setting.assignment)),
    }


def publish(store: Store, run_id: str, made: Publication) -> bool:
    """Show a report at the study's own run, where its reviewer looks first, unless it is there.

    The digest is written last: if the driver is killed before, the next run of the study writes all
    of it again, which changes nothing that is there.

    Args:
        store: an open store.
        run_id: of the study's own run.
        made: what is to be shown.

    Returns:
        Whether anything was written.

    Raises:
        StoreError: the store cannot be read, or refuses what is written.
    """
    run = store.read(lambda client: client.get_run(run_id))
    # the files, which take seconds to make, count by their stamp
    said = [dict(made.metrics), dict(made.params), made.best, made.note, made.stamp]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    if run.data.tags.get(Tag.PUBLISHED) == digest:
        return False
    stored = run.data.params
    # Headlines that do not hold any more: MLflow cannot delete a metric, so they become NaN.
    withdrawn = {
        name: math.nan
        for name, value in run.data.metrics.items()
        if name.startswith(HEADLINE) and not math.isnan(value)
    }
    changes = Changes(
        run=run_id,
        metrics=points({**withdrawn, **made.metrics}),
        params={name: text for name, text in made.params.items() if name not in stored},
        tags={Tag.RUN_NOTE: _note(made, stored), Tag.BEST: made.best, Tag.PUBLISHED: digest},
    )
    answer = _cut(plain(made.answer), MAX_EXPERIMENT_TAG)
    experiment_id = run.info.experiment_id
    store.read(lambda client: client.set_experiment_tag(experiment_id, Tag.RUN_NOTE, answer))
    for name, content in made.files().items():
        if len(content) <= MOST_BYTES:
            store.write(Changes(run=run_id, files={f"{REPORT}/{name}": content}))
    store.write(changes)
    return True


def _note(made: Publication, stored: Mapping[str, str]) -> str:
    """The note, cut at the end of a line to what a tag holds.

    It tells of params whose first value, which MLflow keeps for ever, is not the study's any more.

    Args:
        stored: params of the run.
    """
    outdated = [
        f"`{name}` {made.params.get(name, 'no constant')}"
        for name, text in sorted(stored.items())
        if made.params.get(name) != text
    ]
    told = ", ".join(outdated)
    head = (
        f"MLflow keeps the first value of a parameter; these are now: {told}.\n\n" if told else ""
    )
    tail = f"\nThe whole report: Artifacts, `{REPORT}/{made.page}`."
    return _cut(head + made.note, MAX_TAG - len(tail)) + tail


def _cut(text: str, most: int) -> str:
    """As many whole lines of a text as so many characters hold; of one that is longer, a part."""
    if len(text) <= most:
        return text
    end = text.rfind("\n", 0, most) + 1
    return text[: end or most]
