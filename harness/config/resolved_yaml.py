"""Format a study as YAML, with all overrides applied and defaults filled in."""

from harness.config.study_config import STUDY_KEYS, StudyConfig
from harness.study_files import format_yaml, to_json

_HEAD = "# The study with all --set values and defaults, except defaults of a factor's own keys.\n"


def format_resolved_yaml(study: StudyConfig) -> str:
    """Return a YAML that loads as the same study, even if a backbone's defaults change later.

    A factor has only the keys that the original YAML sets, and its default baseline if it has one.
    """
    keys = {*STUDY_KEYS} - {"space"}
    tree = study.model_dump(mode="json", include=keys) | study.base.model_dump(mode="json")
    # `baseline: null` would remove the baseline, so keys that a factor omits stay omitted.
    space = {key: factor.model_dump(exclude_unset=True) for key, factor in study.space.items()}
    return _HEAD + format_yaml({**tree, "space": to_json(space, study.name)})
