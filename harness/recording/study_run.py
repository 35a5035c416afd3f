"""The study's own run in the store, the parent of its trials' runs."""

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path

from harness.config import StudyConfig, levels
from harness.errors import UserError
from harness.planning import Plan, Setting
from harness.recording.provenance import code_version, package_versions
from harness.store import (
    Ledger,
    Store,
    find_study_run,
    log,
    set_state,
    split_tag,
    store_errors,
)
from harness.wording import one_line
from reports.contract import LONG_TAGS, Kind, State, Tag

logger = logging.getLogger(__name__)

YAML_ARTIFACT = "study.yaml"
_CONTINUED = re.compile(rf"({'|'.join(map(re.escape, LONG_TAGS))})\.\d+$")


class StudyRecord:
    """The parent run. Every method may raise StoreError."""

    def __init__(self, store: Store, experiment_id: str, run_id: str) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self.run_id = run_id
        self._wanted = "[]"  # the text of ship.wanted
        self._keys: set[str] = set()

    @classmethod
    def find(cls, store: Store, experiment_id: str) -> "StudyRecord | None":
        """The study's run, None if there is none yet."""
        run_id = find_study_run(store, experiment_id)
        return None if run_id is None else cls(store, experiment_id, run_id)

    @classmethod
    def create(cls, store: Store, experiment_id: str, study: StudyConfig) -> "StudyRecord":
        """The study's run, found or made.

        Args:
            store: an open store.
            experiment_id: of the study.
            study: the study, whose name a new run has.
        """
        record = cls.find(store, experiment_id)
        if record is not None:
            return record
        tags: dict[str, str] = {Tag.KIND: Kind.STUDY, Tag.STATE: State.RUNNING}
        run_id = store.create_run(experiment_id, study.name, tags)
        return cls(store, experiment_id, store.stored_id(run_id))

    def describe(self, study: StudyConfig, plan: Plan) -> bool:
        """Write what the study is now; returns whether that was new. Touches nothing otherwise."""
        wanted = [*plan.settings, *plan.twins]
        self._wanted = wanted_text(wanted)
        self._keys = {setting.key for setting in wanted}
        tags = {**study_tags(study), **split_tag(Tag.WANTED, self._wanted)}
        held = self._held()
        with store_errors(self._store.uri):
            changed = {name: value for name, value in tags.items() if held.get(name) != value}
            stale = [name for name in held if _CONTINUED.match(name) and name not in tags]
            if not changed and not stale:
                return False
            # emptied along with the rest: who dies before they are gone leaves a text that is whole
            log(self._store.writer, self.run_id, tags={**changed, **dict.fromkeys(stale, "")})
            for name in stale:
                self._store.writer.delete_tag(self.run_id, name)
            text = source_text(study.source)
            if text and Tag.STUDY in changed:
                self._keep_text(text)
        return True

    def _keep_text(self, text: str) -> None:
        """The YAML as the user wrote it; what it says is in tags, so that no study fails for it."""
        try:
            self._store.client.log_text(self._store.stored_id(self.run_id), text, YAML_ARTIFACT)
        except UserError:  # the study is another driver's
            raise
        except Exception as error:  # say, a server that may not write where artifacts go
            logger.warning("%s could not be kept in MLflow: %s", YAML_ARTIFACT, one_line(error))

    def begin(self) -> None:
        """The study is being worked on."""
        with store_errors(self._store.uri):
            versions: dict[str, str] = {
                Tag.CODE_VERSION: code_version(),
                Tag.PACKAGES: package_versions(),
            }
            set_state(self._store.writer, self.run_id, State.RUNNING, versions)

    def want(self, setting: Setting) -> None:
        """Add a setting that the sampler proposed; only the end of the list is written again.

        Where the end reaches into a further tag, both are in one request, so that whoever is
        killed leaves the list with the setting or without it.
        """
        if setting.key in self._keys:
            return
        self._keys.add(setting.key)
        kept = self._wanted[:-1]
        comma = ", " if len(kept) > 1 else ""
        self._wanted = f"{kept}{comma}{wanted_text([setting])[1:]}"
        with store_errors(self._store.uri):
            tags = split_tag(Tag.WANTED, self._wanted, start=len(kept))
            log(self._store.writer, self.run_id, tags=tags)

    def end(self, state: State) -> None:
        """The study is not being worked on any more."""
        with store_errors(self._store.uri):
            set_state(self._store.writer, self.run_id, state)

    def set_final_state(self, state: State) -> None:
        """Set the state of a study in which nothing had to run, where the store has another."""
        if self._held().get(Tag.STATE) != state:
            self.end(state)

    def _held(self) -> dict[str, str]:
        """The tags that the study's run has now."""
        run = self._store.read(lambda client: client.get_run(self.run_id))
        return dict(run.data.tags)

    def place_runs(self, ledger: Ledger, plan: Plan) -> None:
        """Bring the arm and assignment tags of old runs in line with the study as it is now.

        A run that was a reference arm may have become a level, and a new factor's baseline belongs
        into the assignment of every run that was made before there was such a factor.
        """
        wanted = {setting.key: setting for setting in plan.settings}
        for run in ledger.runs:
            setting = wanted.get(run.setting_key)
            if setting is None:
                continue
            tags = setting_tags(setting)
            held: dict[str, str] = {
                Tag.SETTING_KEY: run.setting_key,
                Tag.ARM: run.arm,
                Tag.ASSIGNMENT: json.dumps(dict(run.assignment)),
            }
            changed = {name: value for name, value in tags.items() if held[name] != value}
            if changed:
                with store_errors(self._store.uri):
                    log(self._store.writer, run.run_id, tags=changed)


def study_tags(study: StudyConfig) -> dict[str, str]:
    """The parent run's tags that the YAML decides."""
    factors = [
        {"key": key, "levels": levels(study, key), "log": factor.log, "baseline": factor.baseline}
        for key, factor in study.space.items()
    ]
    whole = study.model_dump(mode="json", exclude={"source"})
    return {
        Tag.RUN_NOTE: study.description,
        Tag.OBJECTIVE: study.objective,
        Tag.SAMPLER: study.sampler,
        Tag.SELECTION: study.trial.selection,
        **split_tag(Tag.FACTORS, json.dumps(factors)),
        **split_tag(Tag.STUDY, json.dumps(whole)),
    }


def wanted_tags(settings: Iterable[Setting]) -> dict[str, str]:
    """ship.wanted, as many tags as it takes (see wanted_text)."""
    return split_tag(Tag.WANTED, wanted_text(settings))


def wanted_text(settings: Iterable[Setting]) -> str:
    """JSON list of {setting_key, assignment, arm}: what belongs to the study now.

    A key comes twice where a reference arm equals a setting of the study.
    """
    wanted = [
        {"setting_key": s.key, "assignment": dict(s.assignment), "arm": s.arm} for s in settings
    ]
    return json.dumps(wanted)


def setting_tags(setting: Setting) -> dict[str, str]:
    """Tags that place a run in the study; they follow the study's YAML when that changes."""
    return {
        Tag.SETTING_KEY: setting.key,
        Tag.ARM: setting.arm,
        Tag.ASSIGNMENT: json.dumps(dict(setting.assignment)),
    }


def source_text(source: Path | None) -> str:
    """The YAML's text, "" if the study has none."""
    try:
        return source.read_text(encoding="utf-8") if source else ""
    except OSError:
        return ""
