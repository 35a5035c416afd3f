"""Write a study back as YAML, with all overrides applied and the defaults of all keys filled in."""

from harness.config.study_config import STUDY_KEYS, StudyConfig
from harness.study_files import format_yaml, to_json

_HEAD = "# The study with all --set values. All keys have values, except omitted keys of factors.\n"


def format_resolved_yaml(study: StudyConfig) -> str:
    """Return a YAML that loads as the same study, even if a backbone's defaults change later.

    Factors have only the keys that the original YAML sets, and a default baseline if there is one.
    """
    keys = {*STUDY_KEYS} - {"space"}
    tree = study.model_dump(mode="json", include=keys) | study.base.model_dump(mode="json")
    # `baseline: null` would remove the baseline, so keys that a factor omits stay omitted.
    space = {key: factor.model_dump(exclude_unset=True) for key, factor in study.space.items()}
    return _HEAD + format_yaml({**tree, "space": to_json(space, study.name)})
