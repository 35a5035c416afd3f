"""Plugins of files and of modules."""

import os
import pickle
from pathlib import Path

import pytest

from ship.configs import FINETUNERS, GENERATORS
from ship.datasets import DATASETS
from ship.plugins import (
    PluginError,
    find_plugin_identities,
    list_loaded_origins,
    load_origins,
    load_plugin,
)
from ship.trial_config import TrialConfig
from tests.case_files import load_cases

pytestmark = pytest.mark.usefixtures("restore_registries")

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
    """Write a file with a fine-tuner."""
    path = folder / file
    path.write_text(SETTINGS.format(name=name, width=width, method=method), "utf-8")
    return path


def test_plugins_of_a_file_are_registered() -> None:
    """All of them, identified by the file's hash, whatever the file is called."""
    load_plugin(FILE)
    trial = TrialConfig.model_validate({"generator": "noisy_text", "finetuner": "nearest_mean"})
    result = find_plugin_identities("noisy_text", "nearest_mean", ["emoji"])
    assert trial.finetuner.name == "nearest_mean"
    assert set(result) == {"generator noisy_text", "finetuner nearest_mean"}
    (what,) = set(result.values())
    assert what.startswith("sha256:") and len(what) == 71
    assert find_plugin_identities("vae", "coop", ["emoji"]) == {}


def test_edited_file_replaces_its_plugins(tmp_path: Path) -> None:
    """It has another identity and the new settings."""
    path = written(tmp_path, width=1)
    load_plugin(path)
    before = find_plugin_identities("none", "own")
    load_plugin(written(tmp_path, width=2))
    assert find_plugin_identities("none", "own") != before
    assert TrialConfig.model_validate({"finetuner": "own"}).finetuner.width == 2  # type: ignore[attr-defined]
    assert len(list_loaded_origins()) == 1


@pytest.mark.parametrize("case", load_cases(__file__, "plugin_files.yaml"), ids=str)
def test_unusable_plugin_files_are_one_line(tmp_path: Path, case: dict[str, str]) -> None:
    """The line has the file and the fault; nothing is registered."""
    path = written(tmp_path, case.get("name", "own"), method=case.get("method", "Made"))
    if "content" in case:
        path.write_text(case["content"], "utf-8")
    before = [dict(table) for table in (GENERATORS, FINETUNERS, DATASETS)]
    with pytest.raises(PluginError, match=case["said"]) as caught:
        load_plugin(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert [dict(table) for table in (GENERATORS, FINETUNERS, DATASETS)] == before
    load_plugin(written(tmp_path))


@pytest.mark.timeout(20)  # opening a pipe waits for a writer
def test_paths_that_are_no_regular_files_are_rejected(tmp_path: Path) -> None:
    """Missing files, pipes, folders, devices and too large files."""
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "large.py").write_text("#" * (1 << 20) + "\n")
    for path, message in {
        tmp_path / "none.py": "cannot be read: No such file",
        tmp_path / "large.py": "more than 1048576 bytes",
        **dict.fromkeys((tmp_path / "pipe.py", tmp_path, Path("/dev/zero")), "a regular file"),
    }.items():
        with pytest.raises(PluginError, match=message) as caught:
            load_plugin(path)
        assert str(caught.value).startswith(f"file {path}: ")


PACKAGE = FILE.parent / "ship_example"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example package can be imported, and is not installed."""
    monkeypatch.syspath_prepend(PACKAGE)


@pytest.mark.usefixtures("example")
def test_plugins_of_a_module_are_registered() -> None:
    """Those of its submodules, too; workers import the module by name."""
    load_plugin("ship_example")
    result = find_plugin_identities("residual_text", "ridge", ["shapes"])
    assert set(result) == {"generator residual_text", "finetuner ridge", "dataset shapes"}
    (identity,) = set(result.values())
    assert identity.startswith("sha256:") and len(identity) == 71
    (origin,) = list_loaded_origins()
    assert (origin.label, origin.content) == ("module ship_example", None)
    FINETUNERS.clear(), FINETUNERS.origins.clear()
    load_origins(pickle.loads(pickle.dumps(list_loaded_origins())))
    assert find_plugin_identities("none", "ridge") == {"finetuner ridge": identity}


def test_identity_of_an_installed_module_is_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contents of its files do not matter."""
    written(tmp_path, file="of_a_package.py")
    about = tmp_path / "theirs-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.2\n")
    (about / "top_level.txt").write_text("of_a_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    load_plugin("of_a_package")
    assert find_plugin_identities("none", "own") == {"finetuner own": "theirs 1.2"}


@pytest.mark.parametrize("changed", ["__init__.py", "inner/methods.py"])
def test_any_changed_file_changes_a_packages_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """A package without a version is identified by its Python files."""
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    for name in (f"before_{len(changed)}", f"after_{len(changed)}"):
        (tmp_path / name / "inner").mkdir(parents=True)
        written(tmp_path / name, file="__init__.py")
        (tmp_path / name / "inner" / "methods.py").touch()
        if name.startswith("after"):
            with (tmp_path / name / changed).open("a") as file:
                file.write("# edited\n")
        FINETUNERS.origins.clear()
        load_plugin(name)
        seen.append(FINETUNERS.origins["own"].identity)
    assert seen[0] != seen[1]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("no_such_module", "module no_such_module cannot be imported: ModuleNotFoundError"),
        ("json", "module json: contains no plugin"),
        ("sys", "module sys has no Python file"),
        ("no_such_file.py", r"file no_such_file\.py: cannot be read: No such file"),
    ],
)
def test_unusable_plugin_modules_are_one_line(name: str, fault: str) -> None:
    """The line has the module and the fault; a name ending in .py is a file."""
    with pytest.raises(PluginError, match=fault) as caught:
        load_plugin(name)
    assert "\n" not in str(caught.value)
