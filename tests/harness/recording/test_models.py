"""Trained models are listed on MLflow's page, and mlflow.pyfunc.load_model loads them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
import torch
from mlflow.tracking import MlflowClient
from PIL import Image

import harness
from harness.errors import UserError
from harness.method import MethodFunctions
from harness.pyfunc import ImageClassifier
from harness.store import Point, list_model
from ship.clip import FrozenCLIP
from tests.harness.conftest import Bench
from tests.harness.fakes import load_fake_images, make_study
from tests.ship.conftest import build_features
from tests.ship.trial.cases import COOP, VAE


def train_models(bench: Bench) -> None:
    """Run a study of one configuration with two seeds that saves its models."""
    features = build_features(FrozenCLIP.load("pocket"))
    replaced: dict[str, Any] = {"extract": lambda *_: features, "load_dataset": load_fake_images}
    constants = {"shots": 2, "augmentations": 2, "generator": VAE, "finetuner": COOP}
    study = make_study(space={"generator.kl_weight": [0.1]}, save_models=True, **constants)
    assert bench.run(study, method=replace(MethodFunctions(), **replaced)).complete


def list_models(bench: Bench) -> list[Any]:
    """Return the experiment's models."""
    client = MlflowClient(bench.uri)
    experiment = client.get_experiment_by_name("small").experiment_id
    return list(client.search_logged_models([experiment]))


def test_pyfunc_accepts_a_single_path() -> None:
    """A path is not taken for a sequence of characters."""
    outputs = SimpleNamespace(probabilities=torch.tensor([[0.25, 0.75]]))
    encoded: list[list[str]] = []
    model: Any = SimpleNamespace(
        encode=encoded.append, predict=lambda _: outputs, class_names=["cat", "dog"]
    )
    for path in ("a.jpg", Path("a.jpg")):
        predicted = ImageClassifier([model, model]).predict(path)
        assert predicted.to_dict("records") == [{"class": "dog", "probability": 0.75}]
    assert encoded == [["a.jpg"]] * 2


@pytest.mark.slow
# A warning of MLflow about its own types, when mlflow.pyfunc is imported.
@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")
def test_mlflow_lists_and_loads_a_trained_model(bench: Bench, tmp_path: Path) -> None:
    """Its predictions equal those of harness.predict. No weights are copied, nothing is pickled."""
    train_models(bench)
    (model,) = list_models(bench)
    (run,) = bench.list_trials()
    assert (model.status, model.source_run_id) == ("READY", run.info.run_id)
    assert model.params == {"generator.kl_weight": "0.1"}
    metrics = {metric.key: metric.value for metric in model.metrics}
    assert metrics["test/harmonic_mean"] == run.data.metrics["test/harmonic_mean"]
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    files = Path(model.artifact_location.removeprefix("file://"))
    assert [path.name for path in files.rglob("*") if path.is_file()] == ["MLmodel"]
    paths = [tmp_path / "images" / f"{color}.png" for color in ("blue", "red")]
    paths[0].parent.mkdir()
    for path in paths:
        Image.new("RGB", (40, 30), path.stem).save(path)
    expected = harness.predict("small", paths[0].parent, tracking_uri=bench.uri)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(bench.uri)
    try:
        predicted = mlflow.pyfunc.load_model(model.model_uri).predict([str(p) for p in paths])
    finally:
        mlflow.set_tracking_uri(before)
    assert predicted["class"].tolist() == expected["class"].to_list()
    assert predicted["probability"].tolist() == pytest.approx(expected["probability"].to_list())
    points = [Point("test/x", 1.0, 1, 0)]
    list_model(MlflowClient(bench.uri), run.info.run_id, "other", [0], {}, points)
    assert len(list_models(bench)) == 1
    mlflow.set_tracking_uri(bench.uri)
    try:
        with pytest.raises(UserError, match=r"seeds must have at least one seed, got \[\]"):
            mlflow.pyfunc.load_model(model.model_uri, model_config={"seeds": []})
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.slow
def test_store_without_models_costs_only_a_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The trial is complete, and a line reports that its models are not listed."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise mlflow.MlflowException("no such endpoint")

    monkeypatch.setattr(MlflowClient, "create_logged_model", refuse)
    train_models(bench)
    assert "MLflow's page does not list them" in caplog.text
    assert list_models(bench) == []
