"""What is fetched ahead of a study: every backbone, dataset and feature set that it may read."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.config.factor import Factor
from harness.config.study_config import StudyConfig
from harness.study import fetch_features, fetch_weights, named_datasets, prefetch
from tests.harness.fakes import FakeClip, make_method, make_study


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


def test_every_backbone_is_loaded_once(tmp_path: Path) -> None:
    """That is what downloads it; on the CPU, as trials are to have the GPU."""
    loaded: list[tuple[str, str]] = []

    def load(name: str, device: str) -> FakeClip:
        loaded.append((name, device))
        return FakeClip(name)

    method = replace(make_method(tmp_path / "log"), load_backbone=load)
    factor = Factor(choices=("pocket", "RN50:openai"), baseline="pocket")
    study = make_study()
    study = study.model_copy(update={"space": {**study.space, "backbone": factor}})
    said: list[str] = []
    fetch_weights(study, said.append, method)
    assert loaded == [("pocket", "cpu"), ("RN50:openai", "cpu")]
    assert said == [f"weights of {name}: they are here" for name, _ in loaded]


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_features_of_the_whole_study_are_extracted(tmp_path: Path, sampler: str) -> None:
    """Of every dataset, whether the settings are known or still to be proposed."""
    method, out = make_method(tmp_path / "log"), io.StringIO()
    study = make_study(sampler=sampler, trials=None if sampler == "grid" else 1)
    console = Console(file=out, width=200)
    cache = tmp_path / "cache"
    fetch_features(of_datasets(study, "a", "b"), None, cache, method=method, console=console)
    assert (tmp_path / "log").read_text().splitlines() == ["extract a", "extract b"]
    assert out.getvalue().splitlines()[-1] == f"2 feature sets are in {cache}"


@pytest.mark.parametrize("resources", [{"gpus": 0.5}, "auto"])
def test_a_login_node_without_a_gpu_extracts_on_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resources: object
) -> None:
    """It says so, with torch's reason; the study itself would be refused there."""
    monkeypatch.setattr(prefetch, "why_no_gpu", lambda: "No CUDA GPUs are available")
    monkeypatch.setattr(prefetch, "usable_gpus", lambda: 2)
    out = io.StringIO()
    fetch_features(
        make_study(resources=resources),
        None,
        tmp_path / "cache",
        method=make_method(tmp_path / "log"),
        console=Console(file=out, width=200),
    )
    assert (tmp_path / "log").read_text() == "extract emoji\n"
    line = "torch cannot use a GPU here (No CUDA GPUs are available): features are extracted on the"
    assert out.getvalue().startswith(line)
