"""Studies with plugins of a file, on Ray, with ship's own method, up to the table."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import harness
import reports
from harness.config import load_plugins
from harness.config.study_config import StudyConfig
from harness.errors import ConfigError
from harness.method import Method
from harness.planning import Consent, SettingMaker
from harness.planning.changes import StudyChanged
from harness.planning.fingerprints import Fingerprints
from harness.study.preview import plan_study
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study

pytestmark = pytest.mark.usefixtures("own_tables")

THIRD_PARTY = Path(__file__).parents[2] / "third_party"
SHAPES = 'from ship.plugins import DatasetPlugin\nshapes = DatasetPlugin("shapes", Shapes())\n'
YAML = """\
dataset: shapes
generator: noisy_text
finetuner: {name: nearest_mean, epochs: 3}
space: {finetuner.step: [0.25, 0.5, 1.0]}
seeds: 2
shots: 2
views: 0
reference_arms: false
resources: {cpus: 1}
concurrency: 1
"""


def written(folder: Path) -> Path:
    """A file with a generator, a fine-tuner and a dataset."""
    shapes = (THIRD_PARTY / "ship_example" / "ship_example" / "shapes.py").read_text("utf-8")
    own = (THIRD_PARTY / "nearest_mean.py").read_text("utf-8")
    path = folder / "mine.py"
    path.write_text(f"{own}\n{shapes}\n{SHAPES}", "utf-8")
    return path


def study(**keys: Any) -> StudyConfig:
    """Two settings of the plugin's fine-tuner."""
    return make_study(
        **{
            "dataset": "shapes", "shots": 2, "views": 0, "generator": "noisy_text",
            "finetuner": {"name": "nearest_mean", "epochs": 3},
            "space": {"finetuner.step": [0.25, 1.0]},
            **keys,
        }
    )  # fmt: skip


def tags(bench: Bench) -> list[str]:
    """What runs say of their plugins, "" where they have none."""
    return [run.data.tags.get("ship.plugins", "") for run in bench.trials()]


@pytest.mark.slow
def test_a_file_goes_through_a_study_to_the_table(ray_bench: Bench, tmp_path: Path) -> None:
    """Features of its dataset, trials of its methods, rows with its hash; the edited file's are
    other settings, which run anew if that is accepted, and the built-ins' stay."""
    path = written(tmp_path)
    load_plugins([path])
    asked = study(space={"finetuner": ["nearest_mean", "tip_adapter"]}, generator="none")
    assert ray_bench.run(asked, method=Method()).complete
    ray_bench.check_invariants()
    with_plugin = [tag for tag in tags(ray_bench) if "finetuner nearest_mean: sha256:" in tag]
    assert len(with_plugin) == 1 and len(tags(ray_bench)) == 2
    assert all("dataset shapes: sha256:" in tag for tag in tags(ray_bench))
    table = reports.load_study("small", ray_bench.uri)
    assert len(table.rows) == 4
    assert ray_bench.run(asked, method=Method()).done == 2
    assert len(ray_bench.trials()) == 2

    path.write_text(path.read_text("utf-8").replace("0.1, gt=0", "0.2, gt=0"))
    load_plugins([path])
    with pytest.raises(
        StudyChanged, match=r"plugin finetuner nearest_mean: sha256:\w{12} -> sha256:\w{12}\n"
    ):
        ray_bench.run(asked, method=Method())
    assert ray_bench.run(asked, method=Method(), consent=Consent(True, None)).complete
    first, second = {tag for tag in tags(ray_bench) if "nearest_mean" in tag}
    assert first != second


def test_what_a_plugin_has_trained_is_kept_and_loaded(bench: Bench, tmp_path: Path) -> None:
    """`save: true` needs nothing of a plugin but learned()."""
    load_plugins([written(tmp_path)])
    assert bench.run(study(save=True), method=Method()).complete
    run = bench.trials()[0].info.run_id
    loaded = harness.load_trained(f"runs:/{run}", 1, tracking_uri=bench.uri)
    assert loaded.config.finetuner.name == "nearest_mean"
    made, labels = loaded.features(per_class=2)
    logits = loaded.logits(made)
    assert logits.shape == (16, 8) and bool(logits.isfinite().all())
    assert float((logits.argmax(1) == labels).float().mean()) > 0.5


def test_the_keys_of_built_ins_do_not_change(tmp_path: Path) -> None:
    """Whatever plugins there are beside them."""
    asked = make_study(space={"finetuner": ["coop", "tip_adapter"]}, dataset="emoji")
    maker = SettingMaker(asked, Fingerprints(Method(), None, tmp_path))
    before = [maker({"finetuner": name}).key for name in ("coop", "tip_adapter")]
    load_plugins([written(tmp_path)])
    assert [maker({"finetuner": name}).key for name in ("coop", "tip_adapter")] == before


def lazy(folder: Path, module: str) -> Path:
    """A file whose fine-tuner is built by a module that is imported when a trial begins."""
    path = folder / "lazy.py"
    path.write_text(
        "from typing import Literal\n"
        "from ship.plugins import Deferred, FinetunerPlugin, NamedSettings\n"
        "class LazyConfig(NamedSettings):\n"
        "    name: Literal['lazy'] = 'lazy'\n"
        f"lazy = FinetunerPlugin(LazyConfig, Deferred('{module}:build'))\n"
    )
    return path


def without_features(bench: Bench) -> Method:
    """The method of a bench, which must not come to its features."""

    def extract(*_: Any) -> Any:
        raise AssertionError("features are made")

    return replace(bench.method, extract=extract)


def test_what_no_trial_could_import_is_told_before_the_features(
    bench: Bench, tmp_path: Path
) -> None:
    """In one line that names the plugin and why; what builds it is imported by no plan."""
    path = lazy(tmp_path, "no_such_module")
    load_plugins([path])
    asked = make_study(finetuner="lazy", space={"shots": [1, 2]})
    with pytest.raises(ConfigError) as caught:
        bench.run(asked, method=without_features(bench))
    assert str(caught.value) == (
        f"file {path}: finetuner lazy cannot be imported: ModuleNotFoundError: No module named "
        f"'no_such_module'"
    )


def test_a_cluster_is_asked_for_what_its_trials_import(
    ray_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the driver alone has is told before the features, too."""
    monkeypatch.setitem(sys.modules, "only_here", SimpleNamespace(build=print))  # type: ignore[arg-type]
    load_plugins([lazy(tmp_path, "only_here")])
    asked = make_study(finetuner="lazy", space={"shots": [1, 2]})
    with pytest.raises(ConfigError, match=r"on a worker of the cluster: file .*'only_here'"):
        ray_bench.run(asked, method=without_features(ray_bench), address="auto")


def test_a_plan_tells_the_time_of_a_plugin(bench: Bench, tmp_path: Path) -> None:
    """A few of its steps are timed, as those of any other method."""
    load_plugins([written(tmp_path)])
    told: list[str] = []
    plan = plan_study(
        study(),
        data_root=None,
        tracking_uri=bench.uri,
        cache_dir=bench.cache,
        method=replace(Method(), extraction_seconds=None),
        say=told.append,
    )
    assert plan.estimate is not None and len(plan.work) == 2, told
    assert all(0 < plan.estimate.seconds[work.setting.key] < 60 for work in plan.work)
    assert "a few steps here of 3 settings" in plan.estimate.source


def sweep(folder: Path, *options: str) -> subprocess.Popen[str]:
    """The command in a process group of its own."""
    command = [sys.executable, "-m", "harness.cli.main", "--space", "mine.yaml", *options]
    return subprocess.Popen(
        [*command, "--plugin", "mine.py", "--cache-dir", "cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(THIRD_PARTY.parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.faults
def test_a_study_with_a_file_is_killed_and_goes_on(tmp_path: Path) -> None:
    """The same command runs what is missing; what was finished is not run again."""
    written(tmp_path)
    (tmp_path / "mine.yaml").write_text(YAML)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    killed = sweep(tmp_path)
    bench = Bench(uri, tmp_path / "log", tmp_path / "cache")
    end = time.monotonic() + 200
    while time.monotonic() < end and killed.poll() is None:
        if (tmp_path / "mlflow.db").exists() and bench.store().experiment("mine") is not None:
            states = [run.data.tags["ship.state"] for run in bench.trials("mine")]
            if "COMPLETE" in states:
                break
        time.sleep(0.2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    again = sweep(tmp_path)
    output, _ = again.communicate(timeout=250)
    assert again.returncode == 0, output
    assert len(reports.load_study("mine", uri).rows) == 6
    bench.check_invariants("mine")
    assert all("sha256:" in run.data.tags["ship.plugins"] for run in bench.trials("mine"))
