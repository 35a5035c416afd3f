"""What `--path` and `--detect` cannot be asked of is told before anything runs."""

from typing import Any

import pytest

from harness.cli.detect import run_stages
from harness.config.study_config import StudyConfig
from harness.errors import ConfigError
from harness.study.path import run_path
from tests.harness.fakes import make_study
from tests.told import told

REFUSED = told(__file__, "refused.yaml")


@pytest.mark.parametrize("option", REFUSED)
def test_one_line_for_each_mistake(option: str) -> None:
    """Of the study, and of the option's own numbers."""

    def never(study: StudyConfig) -> Any:
        raise AssertionError("nothing may run")

    for case in REFUSED[option]:
        study = make_study(**case["keys"])
        with pytest.raises(ConfigError) as caught:
            if option == "path":
                run_path(study, never, print)
            else:
                run_stages(study, case["effect"], case.get("most"), never, never, print)
        for line, start in zip(caught.value.faults, case["lines"], strict=True):
            assert line.startswith(start)
