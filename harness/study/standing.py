"""What a store has of a study, and what is left of it."""

from dataclasses import dataclass

from harness import planning, store
from harness.config import StudyConfig
from harness.planning import Changes, Fingerprints, Plan
from harness.store import Known, Ledger, Store, StoredStudy
from harness.study_files import label_of


@dataclass(frozen=True)
class Standing:
    """A study as it stands.

    study, fingerprints: what is wanted, of which data and weights.
    store, experiment_id: an open store, and the study in it; None: there is none.
    ledger, stored: what the store has of the study, and what it says that the study is.
    plan: what is left.
    """

    study: StudyConfig
    fingerprints: Fingerprints
    store: Store | None
    experiment_id: str | None
    ledger: Ledger
    stored: StoredStudy | None
    plan: Plan

    def again(self) -> "Standing":
        """As it stands now.

        Raises:
            StoreError: the store cannot be read.
        """
        return read_standing(self.study, self.fingerprints, self.store, self.experiment_id)

    def changes(self) -> Changes:
        """Which finished rows would leave the table, and why."""
        maker = planning.SettingMaker(self.study, self.fingerprints)
        return planning.compare(self.study, self.plan, self.ledger, self.stored, maker)

    def elsewhere(self) -> list[Known]:
        """What other studies of the store know of the settings that the plan would run.

        Raises:
            StoreError: the store cannot be read.
        """
        keys, opened = [work.setting.key for work in self.plan.work], self.store
        if opened is None or not keys:
            return []
        own, trained = self.experiment_id, self.study.save
        return opened.read(lambda client: store.read_known(client, own, keys, trained=trained))


def read_standing(
    study: StudyConfig, fingerprints: Fingerprints, opened: Store | None, experiment_id: str | None
) -> Standing:
    """A study as it stands in an open store: see Standing.

    Raises:
        StoreError: the store cannot be read.
    """
    ledger, stored = Ledger(), None
    if opened is not None and experiment_id is not None:
        own, objective = experiment_id, study.objective
        stored = store.read_stored_study(opened, own)
        ledger = opened.read(lambda client: store.read_ledger(client, own, objective))
    plan = planning.make_plan(study, ledger, fingerprints)
    return Standing(study, fingerprints, opened, experiment_id, ledger, stored, plan)


def standing_at(study: StudyConfig, fingerprints: Fingerprints, uri: str) -> Standing:
    """A study as it stands in the store of a URI; there need not be one."""
    opened = store.find_store(uri)
    experiment_id = opened.experiment(study.name) if opened is not None else None
    return read_standing(study, fingerprints, opened, experiment_id)


def source_of(study: StudyConfig) -> str:
    """What messages call the study's YAML."""
    return label_of(study.source) if study.source else f"study {study.name}"
