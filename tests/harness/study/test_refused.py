"""What `--path` and `--detect` cannot be asked of is told before anything runs."""

from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from harness.errors import ConfigError
from harness.study.rounds import rounds_of
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
            rounds_of(
                study,
                never,
                "",
                detect=case.get("effect"),
                max_seeds=case.get("most"),
                path=option == "path",
            )
        for line, start in zip(caught.value.faults, case["lines"], strict=True):
            assert line.startswith(start)
