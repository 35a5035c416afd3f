"""What can be wrong with a study whose keys and values are sound each by itself.

Answers for: levels that stand for no trial, settings that nothing reads, what a protocol, a dataset
and a backbone need. Each check looks at the typed study, or at the trials that it spans, and gives
its faults; none raises at the first.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.checks.backbones import need_faults
from harness.config.checks.effects import dead_faults, effect_faults, warmup_faults
from harness.config.checks.levels import sampler_faults, space_faults
from harness.config.checks.protocols import objective_faults, protocol_faults
from harness.config.checks.settings import located, settings_of
from harness.config.study_config import StudyConfig
from harness.errors import Fault


def study_faults(
    study: StudyConfig, constants: Mapping[str, Any], data_root: Path | None, *, there: bool
) -> list[Fault]:
    """Every such fault at once.

    Args:
        data_root: where the datasets that are not packaged lie.
        there: whether datasets and backbones are looked at, which have to be there then.
    """
    settings, torn = settings_of(study)
    faults = space_faults(study.space) + torn
    faults = faults or dead_faults(study.space, settings)
    faults += effect_faults(study.space, settings)
    faults += protocol_faults(study.space, constants)
    faults += objective_faults(study.space, constants)
    faults += located(study, warmup_faults(study, settings))
    faults += sampler_faults(study)
    if there:
        faults += need_faults(study.space, constants, data_root, study.variants, study)
    return faults
