"""The docstrings of the public API, which docs/ lists with `:::`, have examples that run."""

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


def examples(name: str) -> list[doctest.DocTest]:
    """Return the examples of a class or function and of its public members."""
    module, _, attribute = name.rpartition(".")
    value = getattr(import_module(module), attribute)
    home = sys.modules[value.__module__]
    doctests = doctest.DocTestFinder().find(value, attribute, home, vars(home).copy())
    return [test for test in doctests if test.examples and "._" not in test.name]


def run(name: str) -> None:
    """Run the examples of a name in the working directory."""
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    report: list[str] = []
    for test in examples(name):
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained model, and with two photographs."""
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
    folder = with_photographs(tmp_path_factory.mktemp("examples"))
    (folder / "trained").mkdir()
    for name, content in trial.trained.items():
        (folder / "trained" / name).write_bytes(content)
    return folder


def with_photographs(folder: Path) -> Path:
    """Write two of the packaged photographs into a folder."""
    from ship.datasets import load_dataset

    images = load_dataset("photos").splits["test"].images
    for name, image in zip(("first", "second"), images, strict=False):
        (folder / f"{name}.jpg").write_bytes(image.read())
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the finished study prompt_len, made small, in mlflow.db."""
    from harness import run_study

    folder = with_photographs(tmp_path_factory.mktemp("studies"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SHIP_SWEEP_CACHE", str(folder / "cache"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_study("prompt_len", SMALL, in_process=True).complete
        yield folder


@pytest.mark.parametrize("name", NAMES)
def test_public_names_have_an_example(name: str) -> None:
    """Every class and function of the plugin and Python API shows how it is used."""
    assert name.partition(".")[0] not in COMPLETE or examples(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("ship.")])
def test_examples_run(name: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of ship give the results that they show."""
    monkeypatch.chdir(trained)
    run(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("ship.")])
def test_examples_of_studies_run(name: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of harness and reports run if the study prompt_len is complete in mlflow.db."""
    monkeypatch.chdir(store)
    run(name)


def test_a_wrong_example_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail."""
    value: Any = import_module("ship.methods").Rng
    monkeypatch.setattr(value, "__doc__", ">>> 1 + 1\n3")
    with pytest.raises(AssertionError, match=r"Expected:\n *3"):
        run("ship.methods.Rng")
