"""What a trial may be set to, beside what is built of it."""

from typing import Any, get_args

import pytest

from ship.configs import FinetunerConfig, GeneratorConfig
from ship.finetuners import FINETUNERS
from ship.generators import GENERATORS


@pytest.mark.parametrize(
    ("union", "built"), [(GeneratorConfig, GENERATORS), (FinetunerConfig, FINETUNERS)]
)
def test_whatever_can_be_set_can_be_built(union: Any, built: dict[str, tuple[Any, Any]]) -> None:
    """The YAML takes the names of the tables, with the settings that their builders take."""
    kinds = get_args(get_args(union)[0])
    named = {kind.model_fields["name"].default: kind for kind in kinds}
    assert named == {name: settings for name, (settings, _) in built.items()}
