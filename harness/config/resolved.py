"""Write a study as a YAML without omitted keys."""

from harness.config.study_config import STUDY_KEYS, StudyConfig
from harness.study_files import plain, yaml_text

_HEAD = "# The study with every --set and default in place.\n"


def resolved_yaml(study: StudyConfig) -> str:
    """Return a YAML that loads as the same study, even if a backbone's defaults change later."""
    keys = {*STUDY_KEYS} - {"space"}
    tree = study.model_dump(mode="json", include=keys) | study.base.model_dump(mode="json")
    # A factor's omitted keys stay omitted: baseline: null would mean that there is no baseline.
    space = {key: factor.model_dump(exclude_unset=True) for key, factor in study.space.items()}
    return _HEAD + yaml_text({**tree, "space": plain(space, study.name)})
