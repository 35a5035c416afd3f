"""Examples in the docstrings of the public API, which docs/ lists with `:::`, are correct."""

import doctest
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.test_docs_examples import SMALL

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / name for name in ("python-reference.md", "plugins.md")]
NAMES = [
    name for page in PAGES for name in re.findall(r"^::: (\S+)", page.read_text("utf-8"), re.M)
]
NAMES += ["harness.config.StudyConfig", "harness.study.prefetch_features"]
COMPLETE = {"ship"}  # packages in which every listed name must have an example
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def find_examples(name: str) -> list[doctest.DocTest]:
    """Return the examples of a class or function and of its public members."""
    module, _, attribute = name.rpartition(".")
    value = getattr(import_module(module), attribute)
    home = sys.modules[value.__module__]
    doctests = doctest.DocTestFinder().find(value, attribute, home, vars(home).copy())
    return [test for test in doctests if test.examples and "._" not in test.name]


def run_examples(name: str) -> None:
    """Run the examples of a class or function in the working directory."""
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    report: list[str] = []
    for test in find_examples(name):
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a trained model and two photographs."""
    from ship.clip import FrozenCLIP
    from ship.configs.finetuners import CLIPAdapterConfig
    from ship.configs.generators import GaussianTextConfig
    from ship.testing.bench import make_up_features
    from ship.trial import run_trial
    from ship.trial_config import TrialConfig

    clip = FrozenCLIP.load("pocket")
    config = TrialConfig(
        dataset="photos", selection="none", quality=False, generator=GaussianTextConfig(scale=0.1),
        finetuner=CLIPAdapterConfig(epochs=1),
    )  # fmt: skip
    trial = run_trial(config, [0], make_up_features(clip), clip, save_models=True)
    assert [*trial] and trial.trained
    folder = write_photographs(tmp_path_factory.mktemp("examples"))
    (folder / "trained").mkdir()
    for name, content in trial.trained.items():
        (folder / "trained" / name).write_bytes(content)
    return folder


def write_photographs(folder: Path) -> Path:
    """Write two of the packaged photographs into a folder, and return the folder."""
    from ship.datasets import load_dataset

    images = load_dataset("photos").splits["test"].images
    for name, image in zip(("first", "second"), images, strict=False):
        (folder / f"{name}.jpg").write_bytes(image.read())
    return folder


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with mlflow.db, which contains a finished, small version of the study prompt_len."""
    from harness import run_study

    folder = write_photographs(tmp_path_factory.mktemp("studies"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SHIP_SWEEP_CACHE", str(folder / "cache"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_study("prompt_len", SMALL, in_process=True).complete
        yield folder


@pytest.mark.parametrize("name", NAMES)
def test_public_names_have_an_example(name: str) -> None:
    """Classes and functions of the packages in COMPLETE show how they are used."""
    assert name.partition(".")[0] not in COMPLETE or find_examples(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("ship.")])
def test_examples_of_ship_are_correct(
    name: str, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They return the results that they show."""
    monkeypatch.chdir(model_folder)
    run_examples(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("ship.")])
def test_examples_of_harness_and_reports_are_correct(
    name: str, study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They assume that the study prompt_len is complete in mlflow.db."""
    monkeypatch.chdir(study_folder)
    run_examples(name)


def test_wrong_examples_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure shows the expected result."""
    value: Any = import_module("ship.methods").Rng
    monkeypatch.setattr(value, "__doc__", ">>> 1 + 1\n3")
    with pytest.raises(AssertionError, match=r"Expected:\n *3"):
        run_examples("ship.methods.Rng")
