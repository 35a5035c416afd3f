"""Studies with plugins from files, run with ship's method."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import harness
import reports
from harness.config import load_plugins
from harness.method import MethodFunctions
from harness.planning.changes import StudyChanged
from ship.plugins import PluginError
from ship.trial import TrainedError
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study

pytestmark = pytest.mark.usefixtures("restore_registries")

THIRD_PARTY = Path(__file__).parents[2] / "third_party"
SHAPES = 'from ship.plugins import DatasetPlugin\nshapes = DatasetPlugin("shapes", Shapes())\n'


def write_plugins(folder: Path) -> Path:
    """Write a file with a generator, a fine-tuner and a dataset."""
    shapes = (THIRD_PARTY / "ship_example" / "ship_example" / "shapes.py").read_text("utf-8")
    methods = (THIRD_PARTY / "nearest_mean.py").read_text("utf-8")
    path = folder / "mine.py"
    path.write_text(f"{methods}\n{shapes}\n{SHAPES}", "utf-8")
    return path


def list_plugin_tags(bench: Bench) -> list[str]:
    """Return the plugin tags of all trials' runs; "" if a run has no plugin."""
    return [run.data.tags.get("ship.plugins", "") for run in bench.list_trials()]


@pytest.mark.slow
def test_plugin_file_works_from_study_to_table(ray_bench: Bench, tmp_path: Path) -> None:
    """An edited file creates new configurations, which the user has to accept."""
    path = write_plugins(tmp_path)
    load_plugins([path])
    space = {"finetuner": ["nearest_mean", "tip_adapter"]}
    constants = {"dataset": "shapes", "shots": 2, "augmentations": 0, "generator": "none"}
    study = make_study(space=space, save_models=True, **constants)
    assert ray_bench.run(study, method=MethodFunctions()).complete
    ray_bench.check_invariants()
    with_plugin, built_in = ray_bench.list_trials()
    assert "finetuner nearest_mean: sha256:" in with_plugin.data.tags["ship.plugins"]
    assert "nearest_mean" not in built_in.data.tags["ship.plugins"]
    assert all("dataset shapes: sha256:" in tag for tag in list_plugin_tags(ray_bench))
    address = f"runs:/{with_plugin.info.run_id}"
    loaded = harness.load_trained(address, 1, tracking_uri=ray_bench.uri)
    assert loaded.config.finetuner.name == "nearest_mean"
    assert loaded.logits(torch.ones(3, 256)).isfinite().all()
    table = reports.load_study("small", ray_bench.uri)
    assert len(table.rows) == 4
    assert ray_bench.run(study, method=MethodFunctions()).done == 2
    assert len(ray_bench.list_trials()) == 2

    path.write_text(path.read_text("utf-8").replace("0.5, gt=0", "0.4, gt=0"))
    load_plugins([path])
    with pytest.raises(
        StudyChanged, match=r"plugins: finetuner nearest_mean: sha256:\w{64}.* -> finetuner nearest"
    ):
        ray_bench.run(study, method=MethodFunctions())
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    levels = ["finetuner=nearest_mean"]
    with pytest.raises(TrainedError, match=r"finetuner nearest_mean of plugin 'sha256:\w{64}"):
        harness.predict("small", tmp_path / "a.png", levels, tracking_uri=ray_bench.uri)
    assert ray_bench.run(study, method=MethodFunctions(), accept_changes=True).complete
    assert harness.predict("small", tmp_path / "a.png", levels, tracking_uri=ray_bench.uri).height
    first, second = {tag for tag in list_plugin_tags(ray_bench) if "nearest_mean" in tag}
    assert first != second


def test_a_metric_plugin_works_from_study_to_table(bench: Bench, tmp_path: Path) -> None:
    """Its value per seed is a metric and a line of seeds.csv. The table has it without a verdict.

    All other results are equal to those of a study without the metric.
    """
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from ship.plugins import MetricPlugin\n"
        "def share(logits, labels, seen):\n"
        "    return 100 * (logits.argmax(1) == labels).mean()\n"
        "share = MetricPlugin('share', share)\n"
    )
    load_plugins([plugin])
    constants = {"dataset": "emoji", "max_classes": 8, "shots": 2, "controls": False}
    space = {"generator.n_ctx": [1, 2]}
    methods = {"finetuner": {"name": "coop", "epochs": 1}, "generator": {"epochs": 1}}
    study = make_study(space=space, metrics=["share"], seeds=2, **constants, **methods)
    assert bench.run(study, method=MethodFunctions()).complete
    run = bench.list_trials()[0]
    assert "metric share: sha256:" in run.data.tags["ship.plugins"]
    values = [run.data.metrics[f"test/custom/share/seed_{seed}"] for seed in (0, 1)]
    path = bench.open_store().client.download_artifacts(run.info.run_id, "seeds.csv")
    (line,) = (row for row in Path(path).read_text().splitlines() if "test/custom/share" in row)
    assert [float(value) for value in line.split(",")[1:]] == pytest.approx(values)
    report = reports.load_study("small", bench.uri, metric="custom/share")
    estimates = report.estimates.filter(metric="custom/share")
    rows = report.rows.filter(run_id=run.info.run_id)
    assert rows["test/custom/share"].to_list() == rows["test/joint_accuracy"].to_list() == values
    assert estimates["verdict"].null_count() == len(estimates) == 2
    assert estimates["difference"].count() == 1

    plain = make_study(space=space, seeds=2, name="plain", **constants, **methods)
    assert bench.run(plain, method=MethodFunctions()).complete
    names = [f"test/{name}/seed_{seed}" for name in ("base", "new") for seed in (0, 1)]
    for first, second in zip(bench.list_trials(), bench.list_trials("plain"), strict=True):
        assert [first.data.metrics[n] for n in names] == [second.data.metrics[n] for n in names]


def write_lazy_plugin(folder: Path, module: str) -> Path:
    """Write a plugin file whose fine-tuner is in another module, which is imported when it runs."""
    path = folder / "lazy.py"
    path.write_text(
        "from typing import Literal\n"
        "from ship.plugins import FinetunerSettings\n"
        "class LazyConfig(FinetunerSettings):\n"
        f"    method = '{module}:Lazy'\n"
        "    name: Literal['lazy'] = 'lazy'\n"
    )
    return path


def make_method_without_features(bench: Bench) -> MethodFunctions:
    """Return the method of a bench that fails if features are extracted."""

    def extract(*_: Any) -> Any:
        raise AssertionError("features are extracted")

    return replace(bench.method, extract=extract)


def test_import_error_of_plugin_is_reported_before_features(bench: Bench, tmp_path: Path) -> None:
    """The line has the plugin and the reason. A plan does not import the plugin's method."""
    path = write_lazy_plugin(tmp_path, "no_such_module")
    load_plugins([path])
    study = make_study(finetuner="lazy", space={"shots": [1, 2]})
    assert bench.plan(study).rows
    with pytest.raises(PluginError) as caught:
        bench.run(study, method=make_method_without_features(bench))
    assert str(caught.value) == (
        f"file {path}: finetuner lazy cannot be imported: ModuleNotFoundError: No module named "
        f"'no_such_module'"
    )
