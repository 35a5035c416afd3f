"""Data of a study that MLflow's pages and searches use."""

from pathlib import Path

from mlflow.tracking import MlflowClient

from tests.harness.conftest import Bench
from tests.harness.fakes import make_study


def test_runs_can_be_searched_by_dataset(bench: Bench) -> None:
    """`datasets.name` finds the trials' runs, whose digest is the dataset's fingerprint."""
    bench.run(make_study(space={"generator.n_ctx": [1, 2]}))
    client = MlflowClient(bench.uri)
    experiment = client.get_experiment_by_name("small").experiment_id
    name = bench.list_trials()[0].data.tags["ship.dataset"]
    runs = client.search_runs([experiment], filter_string=f"datasets.name = '{name}'")
    assert {run.info.run_id for run in runs} == {run.info.run_id for run in bench.list_trials()}
    for run in runs:
        (dataset,) = [item.dataset for item in run.inputs.dataset_inputs]
        fingerprint = run.data.tags["ship.dataset_fingerprint"]
        assert (dataset.name, dataset.digest) == (name, fingerprint[:36])
    assert not client.search_runs([experiment], filter_string="datasets.name = 'other'")


def test_charts_begin_with_the_studys_metric(bench: Bench) -> None:
    """The experiment names its primary metric, which every trial's run has."""
    bench.run(make_study(space={"generator.n_ctx": [1]}))
    tags = MlflowClient(bench.uri).get_experiment_by_name("small").tags
    assert tags["mlflow.experiment.primaryMetric.greaterIsBetter"] == "True"
    assert tags["mlflow.experiment.primaryMetric.name"] in bench.list_trials()[0].data.metrics


def test_the_study_run_lists_all_packages(bench: Bench, tmp_path: Path) -> None:
    """environment.txt has the Python version and one package per line."""
    bench.run(make_study(space={"generator.n_ctx": [1]}))
    client = MlflowClient(bench.uri)
    experiment = client.get_experiment_by_name("small").experiment_id
    (run,) = client.search_runs([experiment], filter_string="tags.`ship.kind` = 'study'")
    path = client.download_artifacts(run.info.run_id, "environment.txt", str(tmp_path))
    first, *packages = Path(path).read_text("utf-8").splitlines()
    assert first.startswith("# Python 3.") and any(line.startswith("mlflow==") for line in packages)
