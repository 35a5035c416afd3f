"""Where a study runs and what it runs on."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from harness.checkpoints import Storage
from harness.config import StudyConfig
from harness.planning import (
    Consent,
    Fingerprints,
    Plan,
    SettingMaker,
    StudyOutcome,
    compare,
    make_plan,
    outcome_of,
)
from harness.store import Ledger, Store, StoredStudy, StudyStore, read_ledger, read_stored_study
from harness.study.interrupts import Interrupts
from harness.study_files import label_of


@dataclass(frozen=True)
class OpenStudy:
    """A study that this process runs: its store, data and console; methods may raise StoreError.

    study: its name is its experiment's.
    fingerprints: of its data and weights, with the method and the cache folder.
    storage: of its checkpoints.
    consent: whether finished rows may leave the table.
    address: of the running Ray cluster that its trials run on; None: they run on this machine.
    in_process: one after the other in this process.
    verbose: let Ray talk.
    """

    study: StudyConfig
    store: StudyStore
    experiment_id: str
    fingerprints: Fingerprints
    storage: Storage
    console: Console
    consent: Consent
    interrupts: Interrupts
    address: str | None
    in_process: bool
    verbose: bool

    def ledger(self) -> Ledger:
        """What the store has of the study now."""
        return ledger_of(self.store, self.experiment_id, self.study)[0]

    def plan(self, ledger: Ledger) -> Plan:
        """What is left to do."""
        return make_plan(self.study, ledger, self.fingerprints)

    def check_consent(self, ledger: Ledger, plan: Plan) -> None:
        """Raise StudyChanged if finished rows would leave the table unasked."""
        stored = read_stored_study(self.store, self.experiment_id)
        maker = SettingMaker(self.study, self.fingerprints)
        changes = compare(self.study, plan, ledger, stored, maker)
        self.consent.check(changes, source_of(self.study))

    def outcome(
        self, plan: Plan | None = None, *, interrupted: bool = False, ran: bool = False
    ) -> StudyOutcome:
        """What the study has come to.

        Args:
            plan: what is left, if nothing has run since it was made; None: the store is read.
            interrupted: whether somebody stopped the run.
            ran: whether anything was run at all.
        """
        plan = plan or self.plan(self.ledger())
        name, uri = self.study.name, self.store.uri
        return outcome_of(plan, name, uri, interrupted=interrupted, ran=ran)


def ledger_of(
    store: Store, experiment_id: str, study: StudyConfig
) -> tuple[Ledger, StoredStudy | None]:
    """What the store has of a study, and what it says that the study is.

    Args:
        store: an open store.
        experiment_id: of the study.
        study: the study, whose objective the ledger holds.

    Raises:
        StoreError: the store cannot be read.
    """
    stored = read_stored_study(store, experiment_id)
    ledger = store.read(lambda client: read_ledger(client, experiment_id, study.objective))
    return replace(ledger, table=frozenset(stored.settings) if stored else None), stored


def source_of(study: StudyConfig) -> str:
    """What messages call the study's YAML."""
    return label_of(study.source) if study.source else f"study {study.name}"


def study_storage(uri: str, store: Store, experiment_id: str) -> Storage:
    """The storage of a study, which other studies and other stores do not share.

    By when its experiment was made, to the millisecond: a store may be reached under several
    addresses, and two stores may have one.

    Args:
        uri: of the storage that all studies share.
        store: an open store.
        experiment_id: of the study.
    """
    experiment = store.read(lambda client: client.get_experiment(experiment_id))
    said = f"{experiment.name} {experiment.creation_time}"
    digest = hashlib.blake2b(said.encode(), digest_size=8).hexdigest()
    return Storage(uri, f"{digest}-{experiment_id}")


def default_cache_dir() -> Path:
    """$SHIP_SWEEP_CACHE, else ship-sweep in the user's cache folder."""
    named = os.environ.get("SHIP_SWEEP_CACHE")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ship-sweep"
