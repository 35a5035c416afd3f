"""What is fetched ahead of a study: every backbone, dataset and feature set that it may read."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.config.factor import Factor
from harness.config.study_config import StudyConfig
from harness.planning import Fingerprints
from harness.study import features
from harness.study.features import fetch_features, named_datasets
from tests.harness.fakes import make_method, make_study


def of_datasets(study: StudyConfig, *names: str) -> StudyConfig:
    """The study with a dataset as a factor: datasets of the analytic method need not be there."""
    factor = Factor(choices=names, baseline=names[0])
    return study.model_copy(update={"space": {**study.space, "dataset": factor}})


def test_every_dataset_that_a_study_may_read_is_named() -> None:
    """Levels of the factor, and targets; each once."""
    study = make_study()
    assert named_datasets(study) == ["emoji"]
    assert named_datasets(of_datasets(study, "a", "b")) == ["a", "b"]
    transfer = {"protocol": "cross_dataset", "targets": ("b", "c")}
    trial = study.trial.model_copy(update=transfer)
    both = of_datasets(study, "a", "b").model_copy(update={"trial": trial})
    assert named_datasets(both) == ["a", "b", "c"]


@pytest.mark.parametrize("resources", [{"gpus": 0.5}, "auto"])
def test_a_login_node_without_a_gpu_extracts_on_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resources: object
) -> None:
    """The study itself would be refused there."""
    monkeypatch.setattr(features, "why_no_gpu", lambda: "No CUDA GPUs are available")
    out = io.StringIO()
    prints = Fingerprints(make_method(tmp_path / "log"), None, tmp_path / "cache")
    study, console = make_study(resources=resources), Console(file=out, width=200)
    fetch_features(study, prints, console, verbose=False)
    assert (tmp_path / "log").read_text() == "extract emoji\n"
