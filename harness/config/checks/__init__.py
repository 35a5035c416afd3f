"""What can be wrong with a study whose keys and values are sound each by itself.

Answers for: levels that stand for no trial, settings that nothing reads, what a protocol, a dataset
and a backbone need. Each check looks at the typed study, or at the trials that it spans, and gives
its faults; none raises at the first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.config.checks.backbones import backbone_faults
from harness.config.checks.datasets import dataset_faults
from harness.config.checks.effects import dead_faults, effect_faults, warmup_faults
from harness.config.checks.levels import sampler_faults, space_faults
from harness.config.checks.memory import memory_faults
from harness.config.checks.settings import Setting, located, settings_of, value_of
from harness.config.study_config import StudyConfig
from harness.errors import Fault
from ship.requirements import requirements


def study_faults(
    study: StudyConfig, data_root: Path | None, *, there: bool, memory: int | None = None
) -> list[Fault]:
    """Every such fault at once.

    Args:
        data_root: where the datasets that are not packaged lie.
        there: whether datasets and backbones are looked at, which have to be there then.
        memory: bytes of the machine that trials run on; None: not known.
    """
    settings, torn = settings_of(study)
    faults = space_faults(study.space) + torn
    faults = faults or dead_faults(study.space, settings)
    faults += effect_faults(study.space, settings)
    faults += located(study, protocol_faults(settings))
    faults += located(study, warmup_faults(study, settings))
    faults += sampler_faults(study)
    if there and not (lacking := located(study, need_faults(study, settings, data_root))):
        return faults + located(study, memory_faults(settings, memory))
    return faults + (lacking if there else [])


def protocol_faults(settings: Sequence[Setting]) -> Iterator[tuple[Setting, Fault]]:
    """What trials do not meet of the demands of their protocol."""
    for setting in settings:
        for key, must, choices in requirements(setting.trial):
            fault, value = Fault(key, must, choices=choices), value_of(setting.trial, key)
            yield setting, fault if value in (None, ()) else replace(fault, got=value)


def need_faults(
    study: StudyConfig, settings: Sequence[Setting], data_root: Path | None
) -> Iterator[tuple[Setting, Fault]]:
    """Datasets and backbones that are unknown, unfit or not there."""
    yield from dataset_faults(study, settings, data_root)
    yield from backbone_faults(settings)
