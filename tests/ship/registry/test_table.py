"""A table of names: built-ins, and plugins of installed packages that are loaded when asked for."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from ship.configs import FINETUNERS, GENERATORS
from ship.registry import PluginError
from ship.settings import FinetunerSettings
from ship.trial_config import TrialConfig
from tests.told import told

pytestmark = pytest.mark.usefixtures("own_tables")


class Method:
    """Whatever is set."""


class OwnConfig(FinetunerSettings):
    """Settings of a plugin."""

    method = Method
    name: Literal["own"] = "own"
    size: tuple[int, ...] = (1, 2)


class MineConfig(FinetunerSettings):
    """Of a plugin that an entry point calls otherwise."""

    method = Method
    name: Literal["mine"] = "mine"


nothing = 3


def point(name: str, value: str, package: str = "theirs", version: str = "1.2") -> EntryPoint:
    """An entry point of a package."""
    made = EntryPoint(name, value, FINETUNERS.group)
    vars(made)["dist"] = SimpleNamespace(name=package, version=version)
    return made


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Entry points of the fine-tuners' group, as if packages with them were installed."""
    points: list[EntryPoint] = []

    def entry_points(group: str) -> list[EntryPoint]:
        return list(points) if group == FINETUNERS.group else []

    monkeypatch.setattr("ship.registry.entry_points", entry_points)
    FINETUNERS._installed = None
    return points


def test_a_name_loads_its_plugin_and_no_other(installed: list[EntryPoint]) -> None:
    """The one that is asked for is imported; its settings then are a trial's."""
    installed += [point("own", f"{__name__}:OwnConfig"), point("other", "no_such_module:other")]
    trial = TrialConfig.model_validate({"finetuner": {"name": "own"}})
    assert trial.finetuner == OwnConfig()
    origin = FINETUNERS.origin("own")
    assert origin is not None
    assert (origin.said, origin.identity) == ("package theirs", "theirs 1.2")
    assert FINETUNERS["own"] is OwnConfig
    assert "no_such_module" not in FINETUNERS and "other" in FINETUNERS.names()
    assert FINETUNERS.origin("coop") is None


def test_json_makes_tuples_of_lists(installed: list[EntryPoint]) -> None:
    """A trial goes to a worker as JSON, where a tuple is a list."""
    installed.append(point("own", f"{__name__}:OwnConfig"))
    trial = TrialConfig.model_validate({"finetuner": {"name": "own", "size": (3, 4)}})
    assert TrialConfig.model_validate_json(trial.model_dump_json()) == trial
    with pytest.raises(ValidationError):
        TrialConfig.model_validate({"finetuner": {"name": "own", "size": [3, 4]}})


def test_as_long_as_built_ins_are_named_nobody_looks_for_plugins() -> None:
    """The entry points of all packages are read where an unknown name asks for it alone."""
    FINETUNERS._installed = GENERATORS._installed = None
    TrialConfig.model_validate({"finetuner": "kgcoop", "generator": "wgan"})
    assert FINETUNERS._installed is None and GENERATORS._installed is None
    assert "nobody" not in FINETUNERS
    assert FINETUNERS._installed == {}


@pytest.mark.parametrize("case", told(__file__, "packages.yaml"), ids=str)
def test_plugins_that_cannot_be_used(installed: list[EntryPoint], case: dict[str, Any]) -> None:
    """One line names the package and the fault, also as the fault of the settings that ask."""
    installed += [point(name, at.replace("HERE", __name__), of) for name, at, of in case["points"]]
    said = case["said"]
    with pytest.raises(PluginError, match=said):
        FINETUNERS.get("own")
    with pytest.raises(ValidationError, match=said):
        TrialConfig.model_validate({"finetuner": {"name": "own"}})


def test_an_unknown_name_is_told_with_what_is_installed(installed: list[EntryPoint]) -> None:
    """A plugin that is not loaded yet is a choice like any other."""
    installed.append(point("own", f"{__name__}:OwnConfig"))
    with pytest.raises(ValidationError) as caught:
        TrialConfig.model_validate({"finetuner": {"name": "owm"}})
    (fault,) = caught.value.errors()
    assert fault["type"] == "union_tag_invalid"
    assert fault["ctx"]["expected_tags"].endswith("'gda', 'own'")
