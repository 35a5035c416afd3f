"""run_study with an MLflow store and the analytic method."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from harness import planning, store
from harness.checkpoints import StorageError
from harness.cli.run import FinalReport
from harness.config.factor import Factor
from harness.planning import Fingerprints, Plan
from harness.store.errors import StoreError, StoreUnavailable
from harness.study import run as study_run
from reports.study.load import load_records
from tests.case_files import load_cases
from tests.harness.conftest import Bench
from tests.harness.fakes import compute_result, make_sleeping_behavior, make_study
from tests.harness.tuning.searchers import make_searcher, run_trials


def test_rerun_of_finished_study_does_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No seed runs, no features are extracted, nothing is written, and the plan is made once."""
    bench.run(make_study())
    runs, log = [run.to_dictionary() for run in bench.list_runs()], bench.log.read_text()
    plans: list[Plan] = []
    original = planning.make_plan

    def make_plan(*args: Any) -> Plan:
        plans.append(original(*args))
        return plans[-1]

    monkeypatch.setattr(planning, "make_plan", make_plan)
    monkeypatch.setattr(store, "read_runs_of_other_studies", None)  # other studies are not read
    outcome = bench.run(make_study())
    assert outcome.complete and outcome.final and not outcome.ran
    assert (len(plans), outcome.done) == (1, 3)
    assert bench.log.read_text() == log
    assert [run.to_dictionary() for run in bench.list_runs()] == runs


# Runs a finished study like the command line, with the dataset of the analytic method.
RERUN_SCRIPT = """
import sys
from collections import namedtuple
from pathlib import Path
from harness.cli.run import FinalReport
from harness.config.load import load_study
from harness.method import MethodFunctions
from harness.store import Timing
from harness.study import run_study

Images = namedtuple("Images", "fingerprint split_version")
uri, cache = sys.argv[1:]


def fail(seconds):
    raise AssertionError("the driver waits although it writes nothing")


keys = {"space": {"generator.n_ctx": [1, 2, 4]}, "seeds": 2, "controls": False}
report = FinalReport()
outcome = run_study(
    load_study({"name": "small", **keys, "max_concurrent_trials": 1, "resources": {"gpus": 0}}),
    data_root=None,
    tracking_uri=uri,
    cache_dir=Path(cache),
    method=MethodFunctions(load_dataset=lambda name, *_: Images(f"images-of-{name}", "")),
    publish=report.publication,
    timing=Timing(sleep=fail),
)
report.show(outcome)
print(outcome.done, outcome.ran)
heavy = {"torch", "torchvision", "open_clip", "timm", "ray", "optuna", "vl_convert"}
heavy |= {"sklearn", "scipy.stats"}
print("loaded:", *(heavy & set(sys.modules)))
"""


@pytest.mark.slow
def test_rerun_of_finished_study_imports_nothing_heavy(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch, Ray and Optuna are not imported, and the driver does not wait."""
    monkeypatch.chdir(tmp_path)
    report = FinalReport()
    report.show(bench.run(make_study(), publish=report.publication))
    command = [sys.executable, "-c", RERUN_SCRIPT, bench.uri, bench.cache]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    *_, report_line, counts, loaded = result.stdout.splitlines()
    assert (report_line, counts, loaded) == (
        "report: small-report (unchanged)",
        "3 False",
        "loaded:",
    )


def test_run_has_params_metrics_and_tags(bench: Bench) -> None:
    """It has the analytic method's results under the names of the schema."""
    study = make_study(space={"generator.n_ctx": [4]})
    bench.run(study)
    (run,) = bench.list_trials()
    metrics, tags = run.data.metrics, run.data.tags
    expected = load_cases(__file__, "run.yaml")
    assert expected["params"].items() <= run.data.params.items()
    assert expected["tags"].items() <= tags.items()
    assert tags["mlflow.parentRunId"] == bench.get_study_run().info.run_id
    assert set(json.loads(tags["ship.packages"])) >= {"torch", "ray", "optuna", "mlflow"}
    assert tags["ship.device"].startswith("cpu")
    numbers = [compute_result(study.base, seed) for seed in (0, 1)]
    expected_metrics = {"test/harmonic_mean": sum(numbers) / 2, "objective": sum(numbers) / 2}
    for seed, number in enumerate(numbers):
        expected_metrics[f"test/harmonic_mean/seed_{seed}"] = number
    expected_metrics["trial/text_tokens"] = 100
    assert {name: metrics[name] for name in expected_metrics} == pytest.approx(expected_metrics)
    assert metrics["test/harmonic_mean_low"] < sum(numbers) / 2 < metrics["test/new_high"]
    assert metrics["trial/seconds"] >= 0
    assert metrics["trial/peak_memory_mb"] > 1
    assert "test/selection_epoch" not in metrics
    check_curve(bench, "selection/harmonic_mean", compute_result(study.base, 0.5))
    assert "selection/joint_new/seed_0" not in metrics  # MLflow would show a chart of each
    path = bench.open_store().client.download_artifacts(run.info.run_id, "seeds.csv")
    table = {row["metric"]: row for row in pl.read_csv(path).to_dicts()}
    assert [table["selection_epoch"][f"seed_{seed}"] for seed in (0, 1)] == [3, 3]
    assert [table["selection/joint_new"][f"seed_{seed}"] for seed in (0, 1)] == numbers
    path = bench.open_store().client.download_artifacts(run.info.run_id, "correct.parquet")
    predictions = pl.read_parquet(Path(path))
    assert [list(row) for row in predictions.select("class", "seen").rows()] == expected[
        "correct_predictions"
    ]
    for seed, number in enumerate(numbers):
        correct = [bool(round(number) % 16 & bit) for bit in (8, 4, 2, 1)]
        assert predictions[f"own/seed_{seed}"].to_list() == correct


def check_curve(bench: Bench, name: str, best: float) -> None:
    """Check that a metric of the last trial rises to its maximum in the three selection epochs."""
    curve = bench.open_store().client.get_metric_history(bench.list_trials()[-1].info.run_id, name)
    assert [point.value for point in curve] == pytest.approx([best - 2, best - 1, best])
    assert [point.step for point in curve] == [2, 3, 4]


def test_seed_curves_and_machine_load_are_optional(bench: Bench) -> None:
    """Run history and reports do not read their metrics."""
    space = {"generator.n_ctx": [4]}
    plain = make_study(space=space)
    bench.run(plain)
    (run,) = bench.list_trials()
    assert not any("curve_seed_" in name or name.startswith("system/") for name in run.data.metrics)
    study = make_study(space=space, seeds=3, log={"seed_curves": True, "system_metrics": True})
    assert bench.run(study).complete
    assert len(bench.list_started()) == 3  # only the additional seed runs
    run = bench.list_trials()[-1]
    check_curve(bench, "selection/harmonic_mean/curve_seed_2", compute_result(plain.base, 2))
    assert 0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 100
    columns = load_records("small", bench.uri).rows.columns
    assert not any("curve" in name or "system" in name for name in columns)


def test_each_dataset_of_a_factor_has_its_features(bench: Bench) -> None:
    """Each trial reads the features of its dataset."""
    factor = Factor(choices=("emoji", "caltech101"), baseline="emoji")
    study = make_study(seeds=1).model_copy(update={"space": {"dataset": factor}})
    assert bench.run(study).done == 2
    assert [line.split()[0] for line in bench.list_started()] == ["emoji", "caltech101"]
    prints = [run.data.tags["ship.dataset_fingerprint"] for run in bench.list_trials()]
    assert prints == ["images-of-emoji", "images-of-caltech101"]


@pytest.mark.slow
def test_asha_prunes_no_control(bench: Bench) -> None:
    """Stopped trials are PRUNED without an objective, and are not rerun."""
    bench.behave = make_sleeping_behavior(0.05)
    study = make_study(
        space={"generator.n_ctx": [28, 24, 16, 8, 4, 2]},
        scheduler={"name": "asha", "reduction_factor": 2},
        max_concurrent_trials=1,
        seeds=1,
        controls=True,
    )
    outcome = bench.run(study)
    assert outcome.pruned >= 3
    assert outcome.missing == outcome.failed == 0
    assert outcome.complete
    for run in bench.list_trials():
        if run.data.tags["ship.state"] == "PRUNED":
            assert not run.data.tags["ship.control"] and "objective" not in run.data.metrics
            assert run.info.status == "FINISHED"
            match = re.fullmatch(
                r"stopped by asha at evaluation \d+: harmonic_mean (.+)",
                run.data.tags["ship.reason"],
            )
            last = run.data.metrics["selection/harmonic_mean"]
            assert match is not None and float(match[1]) == pytest.approx(last, abs=0.01)
    assert not bench.run(study).ran
    bench.check_invariants()


def test_tpe_study_is_continued_with_more_trials(bench: Bench) -> None:
    """No configuration is proposed twice."""
    keys: dict[str, Any] = {
        "space": {"generator.kl_weight": {"low": 1e-4, "high": 1.0, "log": True}},
        "sampler": "tpe",
        "seeds": 1,
    }
    assert bench.run(make_study(n_trials=3, **keys)).done == 3
    assert not bench.run(make_study(n_trials=3, **keys)).ran
    outcome = bench.run(make_study(n_trials=6, **keys))
    assert (outcome.done, outcome.missing) == (6, 0)
    assert len({run.config_key for run in bench.read_history().runs}) == 6
    assert len(json.loads(bench.get_study_run().data.tags["ship.planned"])) == 6


@pytest.mark.slow
def test_resumed_gp_study_proposes_the_same(bench: Bench, prints: Fingerprints) -> None:
    """A study that is run in two parts has the proposals of a study that is run at once."""
    keys: dict[str, Any] = {
        "space": {
            "generator.kl_weight": {"low": 1e-4, "high": 1.0, "log": True},
            "generator.n_ctx": [1, 2, 4, 8],
        },
        "sampler": "gp",
        "seeds": 1,
    }
    full_study = make_study(n_trials=14, **keys)
    assert bench.run(make_study(n_trials=12, **keys)).done == 12
    assert bench.run(full_study).complete
    proposed = [
        work.configuration.assignment for work in run_trials(make_searcher(full_study, prints))
    ]
    assert [run.assignment for run in bench.read_history().runs] == proposed


@pytest.mark.slow
def test_search_ends_with_controls_of_best_configuration(bench: Bench) -> None:
    """If another configuration becomes the best, it gets its own controls, and no run is lost."""
    keys: dict[str, Any] = {
        "space": {"shots": {"low": 6, "high": 9}},
        "shots": 5,
        "sampler": "random",
        "seeds": 1,
        "controls": True,
    }
    outcome = bench.run(make_study(n_trials=1, **keys))
    controls = [run for run in bench.read_history().runs if run.control and run.assignment]
    (best,) = [run for run in bench.read_history().runs if not run.control]
    assert [run.control for run in controls] == ["no_synthetic", "text_feature"]
    assert {run.assignment["shots"] for run in controls} == {best.assignment["shots"]}
    assert (outcome.done, outcome.complete) == (7, True)
    planned = json.loads(bench.get_study_run().data.tags["ship.planned"])
    assert sum(bool(entry["control"] and entry["assignment"]) for entry in planned) == 2
    assert not bench.run(make_study(n_trials=1, **keys)).ran
    assert bench.run(make_study(n_trials=2, **keys)).complete
    bench.check_invariants()


def test_deleted_experiment_is_one_line_error(bench: Bench) -> None:
    """Its name cannot be used again, so the error explains how to restore it."""
    store = bench.open_store()
    store.client.delete_experiment(store.get_or_create_experiment("small"))
    with pytest.raises(StoreError, match="restore --experiment-id"):
        bench.run(make_study())


def test_study_is_complete_after_failed_level_is_removed(bench: Bench) -> None:
    """The state of the study's own run changes, and older runs get the new factor's baseline."""

    def behave(config: Any, epoch: int) -> None:
        if config.generator.n_ctx == 2:
            raise RuntimeError("no")

    bench.behave = behave
    assert bench.run(make_study(space={"generator.n_ctx": [1, 2]})).failed == 1
    assert bench.get_study_run().data.tags["ship.state"] == "FAIL"
    shots = {"choices": [16], "baseline": 16}
    outcome = bench.run(make_study(space={"generator.n_ctx": [1], "shots": shots}))
    assert outcome.complete and not outcome.ran
    assert bench.get_study_run().data.tags["ship.state"] == "COMPLETE"
    (tags,) = [run.data.tags for run in bench.list_trials() if run.info.status == "FINISHED"]
    assert json.loads(tags["ship.assignment"]) == {"generator.n_ctx": 1, "shots": 16}


@pytest.mark.parametrize("interrupted", [False, True])
def test_store_outage_at_the_end_leaves_nothing_running(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    """The study's own run is INTERRUPTED, and the same command resumes."""

    def extract(*args: Any) -> Any:
        if interrupted:
            signal.raise_signal(signal.SIGINT)
        return method.extract(*args)

    def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("no answer")

    method = bench.method
    with monkeypatch.context() as patch:
        patch.setattr(study_run.StudyRunner, "_make_outcome", fail)
        with pytest.raises(KeyboardInterrupt if interrupted else StoreUnavailable):
            bench.run(make_study(), method=replace(method, extract=extract))
    bench.check_invariants()
    assert bench.get_study_run().data.tags["ship.state"] == "INTERRUPTED"
    outcome = bench.run(make_study())
    assert outcome.complete and outcome.ran is interrupted
    assert bench.get_study_run().data.tags["ship.state"] == "COMPLETE"


def test_unwritable_storage_is_refused_if_needed(bench: Bench) -> None:
    """A study without checkpoints does not need it."""
    database = bench.uri.removeprefix("sqlite:///")
    storage = f"{database}/below"  # no folder can be created below a file
    study = make_study(space={"generator.n_ctx": [4]}, seeds=1)
    with pytest.raises(StorageError, match="cannot write checkpoints: "):
        bench.run(study, storage=storage)
    assert not bench.list_started()
    without_checkpoints = study.model_copy(update={"checkpoint_every": None})
    assert bench.run(without_checkpoints, storage=storage).complete
