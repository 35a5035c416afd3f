"""Trained models of studies with `save_models: true` and ship's method."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image

import harness
from harness.config.study_config import StudyConfig
from harness.errors import UserError
from harness.method import MethodFunctions
from reports.study.load import load_records
from ship.clip import FrozenCLIP
from ship.subsets import FeatureSet
from ship.trial import TrainedError
from tests.harness.conftest import Bench
from tests.harness.fakes import load_fake_images, make_study
from tests.reports.builder import StoreBuilder, make_scores
from tests.ship.conftest import build_features
from tests.ship.trial.cases import COOP, VAE

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def pocket() -> FrozenCLIP:
    """Load the packaged backbone."""
    return FrozenCLIP.load("pocket")


@pytest.fixture(scope="module")
def features(pocket: FrozenCLIP) -> FeatureSet:
    """Return features of eight classes with the packaged backbone."""
    return build_features(pocket)


def make_model_study(**keys: Any) -> StudyConfig:
    """Return a study of two configurations with two seeds each."""
    space = {"generator.kl_weight": [0.001, 0.1]}
    constants = {"shots": 2, "augmentations": 2, "generator": VAE, "finetuner": COOP}
    return make_study(**{"space": space, "save_models": True, **constants, **keys})


def run_study(bench: Bench, features: FeatureSet, study: StudyConfig) -> Any:
    """Run a study with ship's method on these features."""
    replaced = {"extract": lambda *_: features, "load_dataset": load_fake_images}
    return bench.run(study, method=replace(MethodFunctions(), **replaced))


def read_correct_predictions(bench: Bench, run_id: str) -> pl.DataFrame:
    """Read which test images a run's models have classified correctly."""
    path = bench.open_store().client.download_artifacts(run_id, "correct.parquet")
    return pl.read_parquet(io.BytesIO(Path(path).read_bytes()))


def check_runs(bench: Bench, features: FeatureSet, clip: FrozenCLIP) -> None:
    """Check that loaded models classify the same images correctly as in their run."""
    runs = bench.list_trials()
    assert len(runs) == 2
    for trial_run in runs:
        saved = read_correct_predictions(bench, trial_run.info.run_id)
        labels, seen = saved["class_id"].to_list(), torch.tensor(saved["seen"].to_list())
        for seed in (0, 1):
            address = f"runs:/{trial_run.info.run_id}"
            loaded = harness.load_trained(address, seed, clip=clip, tracking_uri=bench.uri)
            weight = trial_run.data.params["generator.kl_weight"]
            assert loaded.config.generator.kl_weight == float(weight)  # type: ignore[union-attr]
            logits = loaded.logits(torch.tensor(features.test))
            correct = (logits.argmax(-1) == torch.tensor(labels)).tolist()
            assert correct == saved[f"all/seed_{seed}"].to_list()
            is_base = torch.arange(len(loaded.class_names)) < len(loaded.base)
            within = logits.masked_fill(seen.unsqueeze(1) != is_base, -torch.inf).argmax(-1)
            assert (within == torch.tensor(labels)).tolist() == saved[f"own/seed_{seed}"].to_list()


@pytest.mark.slow
def test_each_run_saves_its_trained_models(
    bench: Bench, features: FeatureSet, pocket: FrozenCLIP
) -> None:
    """Each seed has a model. A study that reuses runs also reuses the models that it requests."""
    assert run_study(bench, features, make_model_study()).complete
    check_runs(bench, features, pocket)
    client = bench.open_store().client
    run_id = bench.list_trials()[0].info.run_id
    files = [Path(file.path).name for file in client.list_artifacts(run_id, "trained")]
    assert files == ["seed_0.safetensors", "seed_1.safetensors", "trained.json"]
    for name, save in (("with_models", True), ("without_models", False)):
        assert not run_study(bench, features, make_model_study(name=name, save_models=save)).ran
        names = [
            file.path for file in client.list_artifacts(bench.list_trials(name)[0].info.run_id)
        ]
        assert names == ["correct.parquet", "seeds.csv", "trained"][: 2 + save]
    assert not run_study(bench, features, make_model_study(name="one_seed", seeds=[1])).ran
    (trial_run, *_) = bench.list_trials("one_seed")
    files = [
        Path(file.path).name for file in client.list_artifacts(trial_run.info.run_id, "trained")
    ]
    assert files == ["seed_1.safetensors", "trained.json"]
    harness.load_trained(f"runs:/{trial_run.info.run_id}", clip=pocket, tracking_uri=bench.uri)
    copied_run_id = bench.list_trials("with_models")[0].info.run_id
    copied, first = (
        Path(client.download_artifacts(artifact_run_id, "trained"))
        for artifact_run_id in (copied_run_id, run_id)
    )
    assert all((copied / file.name).read_bytes() == file.read_bytes() for file in first.iterdir())
    check_example(run_id, bench.uri, torch.tensor(features.test))
    # The study is resumed without the override save_models=true of its first run.
    assert not run_study(bench, features, make_model_study(save_models=False)).ran
    check_predictions(bench, pocket)
    for address, error, message in (
        (f"runs:/{run_id}", TrainedError, "has no seed 7; choices: 0, 1"),
        ("runs:/nothing", UserError, "nothing"),
        ("http://127.0.0.1/x", UserError, "must be a path, or begin with one of mlflow-artifacts"),
    ):
        with pytest.raises(error, match=message):
            harness.load_trained(address, 7, clip=pocket, tracking_uri=bench.uri)


def check_predictions(bench: Bench, clip: FrozenCLIP) -> None:
    """Check that predict() returns the class with the highest mean probability over the seeds."""
    folder = bench.log.parent / "images"
    (folder / "below").mkdir(parents=True)
    paths = [folder / "a.PNG", folder / "below" / "b.png"]
    for path, color in zip(paths, ("red", "blue"), strict=True):
        Image.new("RGB", (40, 30), color).save(path)
    for ignored in (".c.png", "notes.txt", ".thumbs/d.png", "e.jpg/notes.txt"):
        (folder / ignored).parent.mkdir(exist_ok=True)
        (folder / ignored).touch()
    levels = ["generator.kl_weight=1.0e-1"]
    predicted = harness.predict("small", folder, levels, tracking_uri=bench.uri)
    (run,) = (
        trial_run
        for trial_run in bench.list_trials()
        if trial_run.data.params["generator.kl_weight"] == "0.1"
    )
    address = f"runs:/{run.info.run_id}"
    models = [
        harness.load_trained(address, seed, clip=clip, tracking_uri=bench.uri) for seed in (0, 1)
    ]
    mean = sum(model.predict(paths).probabilities for model in models) / 2
    best = [models[0].class_names[i] for i in mean.argmax(-1).tolist()]
    assert predicted["image"].to_list() == ["a.PNG", "below/b.png"]
    assert predicted["class"].to_list() == best
    assert predicted["probability"].to_list() == pytest.approx(mean.max(-1).values.tolist())
    assert predicted["seeds"].to_list() == [2, 2]
    assert predicted["error"].to_list() == [None, None]
    (folder / "b.png").write_bytes(b"no image")
    mixed = harness.predict("small", folder, levels, tracking_uri=bench.uri)
    assert mixed["image"].to_list() == ["a.PNG", "b.png", "below/b.png"]
    assert mixed["class"].to_list() == [best[0], None, best[1]]
    assert mixed["error"].to_list() == [None, f"{folder}/b.png: cannot be decoded", None]
    broken = folder.with_name("broken")
    broken.mkdir()
    for name in ("x.png", "y.png"):
        (broken / name).write_bytes(b"no image")
    for invalid, message in (
        ({"config": ["kl_weight=7"]}, "no finished configuration that .*choices: kl_weight "),
        ({"images": folder / "notes.txt"}, "contains no images"),
        ({"images": folder / "none"}, "no such file or folder"),
        (
            {"images": broken, "config": levels},
            "/x.png: cannot be decoded\n.*/y.png: cannot be decoded$",
        ),
    ):
        with pytest.raises(UserError, match=message):
            harness.predict(
                **{"study": "small", "images": folder, "tracking_uri": bench.uri, **invalid}
            )


def test_predict_requires_a_level_of_dataset(tmp_path: Path) -> None:
    """Selection scores of two datasets are not comparable."""
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    n_ctx = "generator.n_ctx"
    factors = [{"key": "dataset", "levels": ["emoji", "photos"]}, {"key": n_ctx, "levels": [1, 2]}]
    datasets = StoreBuilder("datasets", factors, [0], config={"save_models": True})
    for number, dataset in enumerate(("emoji", "photos")):
        for level in (1, 2):
            assignment = {"dataset": dataset, n_ctx: level}
            datasets.add_run(
                assignment, {0: make_scores(80 - 30 * number + level)}, dataset=dataset
            )
    crossed = StoreBuilder("crossed", seeds=[0], protocol="cross_dataset")
    crossed.add_run({n_ctx: 1}, {0: {"accuracy": 50.0}}, selected={"harmonic_mean": 50.0})
    uri = datasets.write(f"sqlite:///{tmp_path}/mlflow.db")
    crossed.write(uri)
    rows = load_records("datasets", uri).rows
    best = rows.filter(pl.col("config_key").str.contains("photos.*: 2"))["run_id"].item()
    no_level = "config must select a level of dataset, because its levels have .*: emoji, photos"
    for study_name, levels, message in (
        ("datasets", [], no_level),
        ("datasets", ["n_ctx=1", "x=2"], f"^config: x must be a factor of datasets .*\n{no_level}"),
        (
            "datasets",
            ["dataset=moji"],
            "no finished configuration .*got dataset=moji. .*choices: dataset emoji, n_ctx 2; ",
        ),
        ("datasets", ["dataset=photos"], best),
        ("crossed", [], "^study crossed: predict does not support cross_dataset .*target=NAME"),
    ):
        with pytest.raises((UserError, TrainedError), match=message):
            harness.predict(study_name, tmp_path, levels, tracking_uri=uri)


def check_example(run_id: str, store: str, images: torch.Tensor) -> None:
    """Run the example of docs/howto/trained-model.md, and check what its comments state."""
    page = (DOCS / "howto" / "trained-model.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.S)
    variables: dict[str, Any] = {"images": images}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store)
        exec(example.replace("RUN_ID", run_id), variables)
    assert variables["features"].shape == (100, 256)
    assert variables["labels"].tolist() == [0] * 50 + [1] * 50
    assert variables["scores"].shape == (len(images), len(variables["trained"].class_names))


@pytest.mark.slow
def test_save_models_does_not_rerun_finished_runs(bench: Bench, features: FeatureSet) -> None:
    """The key does not change the configuration."""
    assert run_study(bench, features, make_model_study(save_models=False)).complete
    assert not run_study(bench, features, make_model_study()).ran
    run_id = bench.list_trials()[0].info.run_id
    names = [file.path for file in bench.open_store().client.list_artifacts(run_id)]
    assert names == ["correct.parquet", "seeds.csv"]
    assert run_study(
        bench, features, make_model_study(name="other")
    ).ran  # a study that saves models cannot reuse runs without them
    (bench.log.parent / "x.png").write_bytes(b"")
    message = r"no saved models of run \w{32}. .* ran without .* save_models=true under"
    with pytest.raises(UserError, match=message):
        harness.predict(
            "small", bench.log.parent / "x.png", ["kl_weight=0.1"], tracking_uri=bench.uri
        )
    assert run_study(bench, features, make_model_study(seeds=3)).ran
    files = [
        len(bench.open_store().client.list_artifacts(trial_run.info.run_id, "trained"))
        for trial_run in bench.list_trials()
    ]
    assert sorted(files) == [0, 0, 2, 2]


@pytest.mark.weekly
def test_models_are_loaded_from_a_tracking_server(
    start_server: Callable[[Path], Bench], tmp_path: Path, features: FeatureSet, pocket: FrozenCLIP
) -> None:
    """A model is loaded by the address of a run, of its folder, or of a seed's file."""
    bench = start_server(tmp_path / "files")
    assert run_study(bench, features, make_model_study()).complete
    check_runs(bench, features, pocket)
    info = bench.list_trials()[0].info
    models = bench.open_store().client.search_logged_models([info.experiment_id])
    assert [model.status for model in models] == ["READY", "READY"]
    for base in (f"runs:/{info.run_id}", info.artifact_uri):
        for path, seed in (("trained", 0), ("trained/seed_1.safetensors", 1)):
            loaded = harness.load_trained(f"{base}/{path}", clip=pocket, tracking_uri=bench.uri)
            assert loaded.seed == seed
    with pytest.raises(UserError, match=re.escape(info.run_id)):
        harness.load_trained(f"runs:/{info.run_id}", 7, clip=pocket, tracking_uri=bench.uri)
