"""A study's YAML with all defaults and overrides filled in."""

from harness.config.study_config import STUDY_KEYS, StudyConfig
from harness.study_files import format_yaml, to_json

_HEAD = "# The study, with all defaults and all --set values filled in.\n"


def format_resolved_yaml(study: StudyConfig) -> str:
    """Return a YAML that loads as the same study, even if a backbone's defaults change later."""
    keys = {*STUDY_KEYS} - {"space"}
    tree = study.model_dump(mode="json", include=keys) | study.base.model_dump(mode="json")
    # `baseline: null` would remove the baseline, so keys that a factor omits stay omitted.
    space = {key: factor.model_dump(exclude_unset=True) for key, factor in study.space.items()}
    return _HEAD + format_yaml({**tree, "space": to_json(space, study.name)})
