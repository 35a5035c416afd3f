"""Where a study runs and what it runs on."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from harness.fingerprints import Fingerprints
from harness.ledger import Ledger, read_ledger
from harness.method import Method
from harness.outcome import StudyOutcome, outcome_of
from harness.plan import Plan, make_plan
from harness.study_config import StudyConfig
from harness.tracking import Store


@dataclass(frozen=True)
class Site:
    """One study's store, method, data and console; every method may raise StoreError."""

    study: StudyConfig
    store: Store
    experiment_id: str
    fingerprints: Fingerprints
    method: Method
    data_root: Path | None
    cache_dir: Path
    console: Console

    def ledger(self) -> Ledger:
        """What the store has of the study now."""
        return self.store.read(
            lambda client: read_ledger(client, self.experiment_id, self.study.objective)
        )

    def plan(self, ledger: Ledger) -> Plan:
        """What is left to do."""
        return make_plan(self.study, ledger, self.fingerprints)

    def outcome(self, *, interrupted: bool, ran: bool) -> StudyOutcome:
        """What the study has come to."""
        plan = self.plan(self.ledger())
        name, uri = self.study.name, self.store.uri
        return outcome_of(plan, name, uri, interrupted=interrupted, ran=ran)
