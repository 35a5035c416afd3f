"""`harness`, from Python: a call that cannot be meant is told by the function's own words."""

from typing import Any

import pytest

from harness import plan_study, run_study
from harness.config.load import parse_study
from harness.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            ({"seeds": 3},),
            "the study must be a YAML file or a packaged space, got a dict (choices: ",
        ),
        (
            ("prompt_len", "seeds=3"),
            "overrides must be a list such as [\"seeds=3\"], got 'seeds=3'",
        ),
        (
            (parse_study({"space": {"shots": [1, 2]}}, "x"), ["seeds=3"]),
            "overrides must be left out beside a study, got ['seeds=3']",
        ),
        (("prompt_len", [3]), 'overrides must be a list such as ["seeds=3"], got [3]'),
    ],
)
def test_an_argument_of_another_type_is_named(given: Any, told: str) -> None:
    """No option of the command is: a script has none."""
    with pytest.raises(ConfigError) as raised:
        run_study(*given)
    assert str(raised.value).startswith(told)
    assert "--" not in str(raised.value)


@pytest.mark.parametrize("call", [run_study, plan_study])
def test_what_cannot_be_asked_of_a_study_is_refused_as_the_command_does(call: Any) -> None:
    """Before anything runs."""
    with pytest.raises(ConfigError, match="--detect must be points > 0, got 0"):
        call("prompt_len", detect=0.0)
    with pytest.raises(ConfigError, match="--path must come without --detect"):
        call("prompt_len", detect=1.0, path=True)
