"""Settings and finished runs as a plan meets them."""

from typing import Any

from harness.config.study_config import StudyConfig
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import make_plan
from harness.planning.settings import Setting
from harness.store.ledger import Ledger, LedgerRun
from reports.contract import State, Tag
from reports.read.runs import Run


def settings_of(study: StudyConfig, prints: Fingerprints) -> list[Setting]:
    """The study's settings, reference arms first."""
    return list(make_plan(study, Ledger(), prints).settings)


def run_of(setting: Setting, seeds: tuple[int, ...], **keys: Any) -> LedgerRun:
    """A run in the ledger."""
    tags: dict[str, str] = {Tag.DEVICE: keys.pop("device", "")}
    values: dict[str, Any] = {
        "logged": Run("r", 0, tags, {}, {}),
        "setting_key": setting.key,
        "arm": setting.arm,
        "assignment": setting.assignment,
        "seeds": seeds,
        "state": State.COMPLETE,
        "failure": None,
        "reason": "",
        "objective": {seed: 50.0 + seed for seed in seeds},
        "seconds": 10.0,
        **keys,
    }
    return LedgerRun(**values)
