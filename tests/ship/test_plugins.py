"""Plugins in a single file, and those of installed packages, loaded when a name asks for them."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from ship.configs import FINETUNERS, GENERATORS
from ship.datasets import DATASETS
from ship.plugins import PluginError, carried, identities, load_plugin
from ship.settings import FinetunerSettings
from ship.trial_config import TrialConfig
from tests.told import told

pytestmark = pytest.mark.usefixtures("own_tables")

FILE = Path(__file__).parents[1] / "third_party" / "nearest_mean.py"
SETTINGS = """
from typing import Literal
from ship.plugins import FinetunerSettings
class Made:
    def __init__(self, *_): pass
class Config(FinetunerSettings):
    method = {method}
    name: Literal["{name}"] = "{name}"
    width: int = {width}
"""


def written(
    folder: Path, name: str = "own", width: int = 1, file: str = "own.py", method: str = "Made"
) -> Path:
    """A file with a fine-tuner."""
    path = folder / file
    path.write_text(SETTINGS.format(name=name, width=width, method=method), "utf-8")
    return path


def test_a_files_plugins_join_the_tables() -> None:
    """All of them, with the file's hash as what they are, whatever the file is called."""
    load_plugin(FILE)
    trial = TrialConfig.model_validate({"generator": "noisy_text", "finetuner": "nearest_mean"})
    found = identities("noisy_text", "nearest_mean", ["emoji"])
    assert trial.finetuner.name == "nearest_mean"
    assert set(found) == {"generator noisy_text", "finetuner nearest_mean"}
    (what,) = set(found.values())
    assert what.startswith("sha256:") and len(what) == 71
    assert identities("vae", "coop", ["emoji"]) == {}


def test_an_edited_file_takes_the_place_of_what_it_was(tmp_path: Path) -> None:
    """Another identity, and the new settings: nothing of the old module is used."""
    path = written(tmp_path, width=1)
    load_plugin(path)
    before = identities("none", "own")
    load_plugin(written(tmp_path, width=2))
    assert identities("none", "own") != before
    assert TrialConfig.model_validate({"finetuner": "own"}).finetuner.width == 2  # type: ignore[attr-defined]
    assert len(carried()) == 1


@pytest.mark.parametrize("case", told(__file__, "plugin_files.yaml"), ids=str)
def test_files_that_cannot_be_used(tmp_path: Path, case: dict[str, str]) -> None:
    """One line that names the file and the fault; nothing joins, and it can be mended."""
    path = written(tmp_path, case.get("name", "own"), method=case.get("method", "Made"))
    if "content" in case:
        path.write_text(case["content"], "utf-8")
    before = [dict(table) for table in (GENERATORS, FINETUNERS, DATASETS)]
    with pytest.raises(PluginError, match=case["said"]) as caught:
        load_plugin(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert [dict(table) for table in (GENERATORS, FINETUNERS, DATASETS)] == before
    load_plugin(written(tmp_path))


@pytest.mark.timeout(20)  # whoever opens a pipe waits for a writer
def test_what_is_no_file_to_be_run(tmp_path: Path) -> None:
    """Nothing there, a pipe that nobody writes to, a folder, a device; one that is too large."""
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "large.py").write_text("#" * (1 << 20) + "\n")
    for path, said in {
        tmp_path / "none.py": "cannot be read: No such file",
        tmp_path / "large.py": "more than 1048576 bytes",
        **dict.fromkeys((tmp_path / "pipe.py", tmp_path, Path("/dev/zero")), "a regular file"),
    }.items():
        with pytest.raises(PluginError, match=said) as caught:
            load_plugin(path)
        assert str(caught.value).startswith(f"file {path}: ")


def test_two_files_with_one_name(tmp_path: Path) -> None:
    """Both are named; the first stays."""
    load_plugin(written(tmp_path, file="one.py"))
    with pytest.raises(PluginError, match=r"two\.py: finetuner own has the name of one of file"):
        load_plugin(written(tmp_path, width=3, file="two.py"))
    assert FINETUNERS["own"]().width == 1  # type: ignore[attr-defined]


def test_a_traceback_shows_the_files_lines(tmp_path: Path) -> None:
    """The author of a plugin sees where it went wrong."""
    path = written(tmp_path)
    path.write_text(path.read_text().replace("pass", "return 1 / 0  # here"), "utf-8")
    code = (
        f"from ship.plugins import load_plugin; load_plugin({str(path)!r});"
        "from ship.configs import FINETUNERS; FINETUNERS['own'].load_method()()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert f'{path}", line ' in done.stderr and "# here" in done.stderr


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


@pytest.mark.parametrize("case", told(__file__, "plugin_packages.yaml"), ids=str)
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
