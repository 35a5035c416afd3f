"""Helpers that create configurations and run records for tests of plans."""

from typing import Any

from harness.config.study_config import StudyConfig
from harness.planning.configurations import Configuration
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import make_plan
from harness.store import Run, State, Tag
from harness.store.history import RunHistory, RunRecord


def list_configurations(study: StudyConfig, prints: Fingerprints) -> list[Configuration]:
    """Return the study's configurations, first those of the controls."""
    return list(make_plan(study, RunHistory(), prints).configurations)


def build_record(configuration: Configuration, seeds: tuple[int, ...], **keys: Any) -> RunRecord:
    """Return the record of a complete run whose objective is 50 + seed.

    Args:
        configuration: The run's configuration.
        seeds: Its seeds.
        **keys: Other fields of the record, and the device.
    """
    tags: dict[str, str] = {Tag.DEVICE: keys.pop("device", "")}
    fields: dict[str, Any] = {
        "logged": Run("r", 0, tags, {}, {}),
        "config_key": configuration.key,
        "control": configuration.control,
        "assignment": configuration.assignment,
        "seeds": seeds,
        "state": State.COMPLETE,
        "failure": None,
        "reason": "",
        "objective": {seed: 50.0 + seed for seed in seeds},
        "seconds": 10.0,
        **keys,
    }
    return RunRecord(**fields)
