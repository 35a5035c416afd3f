"""`harness.run_study`: a call that cannot be meant is told by the function's own words."""

from typing import Any

import pytest

from harness import run_study
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
        (("prompt_len", [3]), 'overrides must be a list such as ["seeds=3"], got [3]'),
    ],
)
def test_an_argument_of_another_type_is_named(given: Any, told: str) -> None:
    """No option of the command is: a script has none."""
    with pytest.raises(ConfigError) as raised:
        run_study(*given)
    assert str(raised.value).startswith(told)
    assert "--" not in str(raised.value)
